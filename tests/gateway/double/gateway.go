package main

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"choreoctl.dev/gateway/verdict"
)

// The gateway.

// mode is how the gateway is to whoever connects.
type mode struct {
	presents   int           // which of the leaves
	terminated bool          // TLS ends before it: nobody is asked for a certificate
	dropping   bool          // it rejects any certificate in the handshake
	silent     bool          // it accepts connections, and sends nothing
	blind      bool          // its API server is gone
	other      bool          // it is no gateway
	newer      bool          // it is of the other era
	ahead      time.Duration // by which its clock is
	over       chan struct{} // closed by the next mode
}

const valid, expired, strange = 0, 1, 2 // leaves

var modes = map[string]mode{
	"well":       {},
	"expired":    {presents: expired},
	"stranger":   {presents: strange},
	"terminated": {terminated: true},
	"dropping":   {dropping: true},
	"silent":     {silent: true},
	"newer":      {newer: true},
	"blind":      {blind: true},
	"other":      {other: true},
	"fast":       {ahead: 10 * time.Minute},
	"slow":       {ahead: -time.Hour},
}

// issuer is a CA.
type issuer struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newIssuer(name string) (issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return issuer{}, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return issuer{}, err
	}
	certificate, err := x509.ParseCertificate(der)
	return issuer{certificate, key}, err
}

func (by issuer) issue(key *ecdsa.PrivateKey, name string, until time.Time) (tls.Certificate, error) {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		DNSNames:    []string{"localhost"}, // and no address, which the chart can't make either
		NotBefore:   time.Now().Add(-2 * time.Hour),
		NotAfter:    until,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.certificate, key.Public(), by.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// certify makes the gateway's certificates.
func (d *double) certify() error {
	own, err := newIssuer("gateway-ca")
	if err != nil {
		return err
	}
	stranger, err := newIssuer("stranger")
	if err != nil {
		return err
	}
	if d.internal, err = newIssuer("internal-ca"); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	for leaf, made := range []struct {
		by    issuer
		until time.Time
	}{
		valid:   {own, now.AddDate(1, 0, 0)},
		expired: {own, now.Add(-time.Hour)},
		strange: {stranger, now.AddDate(1, 0, 0)},
	} {
		if d.leaves[leaf], err = made.by.issue(key, "gateway", made.until); err != nil {
			return err
		}
	}
	if d.controller, err = controllerClient(own, d.internal); err != nil {
		return err
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.certificate.Raw})
	return os.WriteFile(filepath.Join(os.Args[1], "gateway.crt"), ca, 0o644)
}

// controllerClient makes the pair by which the controller is known to the internal API, and keeps it with the CA that
// issued it beside the gateway's CA.
func controllerClient(gateway, internal issuer) (*http.Client, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	pair, err := internal.issue(key, "openchoreo-controller-manager", time.Now().AddDate(0, 0, 90))
	if err != nil {
		return nil, err
	}
	octets, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	for name, block := range map[string]*pem.Block{
		"internal-ca.crt": {Type: "CERTIFICATE", Bytes: internal.certificate.Raw},
		"controller.crt":  {Type: "CERTIFICATE", Bytes: pair.Certificate[0]},
		"controller.key":  {Type: "PRIVATE KEY", Bytes: octets},
	} {
		if err := os.WriteFile(filepath.Join(os.Args[1], name), pem.EncodeToMemory(block), 0o600); err != nil {
			return nil, err
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(gateway.certificate)
	return &http.Client{Timeout: time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{
			RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{pair},
		},
	}}, nil
}

// listen gives the port of a new listener whose handshakes are decided by a function.
func listen(greet func(*tls.ClientHelloInfo) (*tls.Config, error), handler http.Handler) (int, error) {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetConfigForClient: greet})
	if err != nil {
		return 0, err
	}
	// What becomes of a handshake is for the client to tell.
	server := http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
	go server.Serve(listener)
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// greet decides on a handshake of an agent.
func (d *double) greet(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	m := d.mode.Load()
	config, err := m.greet(hello, d.leaves[:])
	if m.terminated && err == nil {
		config.ClientAuth = tls.NoClientCert
	}
	if m.dropping && err == nil {
		config.ClientAuth = tls.RequireAnyClientCert
		config.VerifyConnection = func(tls.ConnectionState) error { return errors.New("dropped") }
	}
	return config, err
}

// greetInternal decides on a handshake at the API's own listener, which isn't there where agents share theirs with it.
func (d *double) greetInternal(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	api := d.settings.Load().api
	if api == shared {
		hello.Conn.Close()
		return nil, net.ErrClosed
	}
	config, err := d.mode.Load().greet(hello, d.leaves[:])
	if api == mutual && err == nil {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		config.ClientCAs.AddCert(d.internal.certificate)
	}
	return config, err
}

func (m *mode) greet(hello *tls.ClientHelloInfo, leaves []tls.Certificate) (*tls.Config, error) {
	if m.silent {
		gone := make(chan struct{})
		go func() {
			io.Copy(io.Discard, hello.Conn)
			close(gone)
		}()
		select {
		case <-gone:
		case <-m.over:
		}
		hello.Conn.Close() // before an alert is sent
		return nil, net.ErrClosed
	}
	return &tls.Config{
		Certificates: leaves[m.presents : m.presents+1],
		ClientAuth:   tls.RequestClientCert,
		MinVersion:   tls.VersionTLS12,
		// No handshake is spared by one that was made in another mode.
		SessionTicketsDisabled: true,
	}, nil
}

// handlers gives what agents reach, and what is reached at the API's own listener.
func (d *double) handlers() (public, internal http.Handler) {
	d.planeAPI = d.planeRoutes()
	sockets := http.NewServeMux()
	sockets.HandleFunc("/ws", d.socket)
	public = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") && d.settings.Load().api == shared {
			d.planeAPI.ServeHTTP(w, r)
		} else {
			sockets.ServeHTTP(w, r)
		}
	})
	return d.inMode(public), d.inMode(d.planeAPI)
}

// inMode answers as the gateway's mode is.
func (d *double) inMode(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := d.mode.Load()
		w.Header().Set("Date", time.Now().Add(m.ahead).UTC().Format(http.TimeFormat))
		if m.other {
			http.Error(w, "upstream is away", http.StatusServiceUnavailable)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

func (d *double) socket(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	planeType, planeID, presented := query.Get("planeType"), query.Get("planeID"), r.TLS.PeerCertificates
	valid, status, text := d.judge(planeType, planeID, presented)
	if status == http.StatusSwitchingProtocols {
		if pod := r.Header.Get(ofPod); pod != "" {
			now := time.Now()
			d.connect(pod, session{planeType, planeID, presented, valid, now, now.Add(d.mode.Load().ahead)})
		}
		// Whoever is authorized without asking for an upgrade is told which one there is.
		w.Header().Set("Sec-Websocket-Version", "13")
		status, text = http.StatusBadRequest, "Bad Request"
	}
	if r.Header.Get("Upgrade") != "" {
		d.Lock()
		d.upgrades++
		d.Unlock()
	}
	http.Error(w, text, status)
}

// judge answers a connection with what the planes and Secrets say at this moment: which planes authorize it, or why none.
func (d *double) judge(planeType, planeID string, presented []*x509.Certificate) (valid []string, status int, text string) {
	m, of := d.mode.Load(), d.settings.Load().era
	if m.newer {
		of = v1 - of
	}
	switch {
	case planeType == "":
		return nil, http.StatusBadRequest, "missing planeType parameter"
	case planeID == "":
		return nil, http.StatusBadRequest, "missing planeID parameter"
	case !of.knows(planeType):
		types := of.planeTypes()
		text := "invalid planeType: must be '%s', '%s', or '%s'"
		return nil, http.StatusBadRequest, fmt.Sprintf(text, types[0], types[1], types[2])
	case len(presented) == 0:
		return nil, http.StatusUnauthorized, "no client certificate presented"
	}
	refuse := func(reason string) ([]string, int, string) {
		if d.isNews("refused "+planeType+"/"+planeID+fingerprint(presented[0].Raw), reason) {
			d.log.Warn("per-CR certificate verification failed", "planeType", planeType, "planeID", planeID, "error", reason)
		}
		return nil, http.StatusUnauthorized, unverified + reason
	}
	bundles, err := d.bundles(planeType, planeID)
	if err != nil {
		return refuse(unread + err.Error())
	}
	if len(bundles) == 0 {
		return refuse(fmt.Sprintf("no %s CRs found with planeID '%s'", planeType, planeID))
	}
	for _, key := range slices.Sorted(maps.Keys(bundles)) {
		if d.trusts(bundles[key], presented) {
			valid = append(valid, key)
		}
	}
	if len(valid) == 0 {
		return refuse(fmt.Sprintf("certificate not valid for any CR with planeID '%s'", planeID))
	}
	return valid, http.StatusSwitchingProtocols, ""
}

func (d *double) trusts(ca []byte, presented []*x509.Certificate) bool {
	roots, _ := verdict.Roots(ca)
	return verdict.Verify(roots, presented, time.Now().Add(d.mode.Load().ahead)) == nil
}

const (
	unverified = "client certificate verification failed: "
	unread     = "failed to get client CA configurations: "
)

// bundles reads the CAs of the planes that have this planeID; one that can't be read is left out. The gateway also leaves
// out those that it can't read because the API server is gone, but here that isn't to count as a refusal.
func (d *double) bundles(planeType, planeID string) (map[string][]byte, error) {
	if d.mode.Load().blind {
		return nil, errors.New("the API server is gone")
	}
	of := d.settings.Load().era
	if !of.knows(planeType) {
		return nil, fmt.Errorf("unsupported plane type: %s", planeType)
	}
	found := map[string][]byte{}
	for _, kind := range of.kinds(planeType) {
		items, err := list(kind, d.control.get) // what is now, not what was reported
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			if item.id() != planeID {
				continue
			}
			ca, err := d.clientCA(of, item)
			if code := answered(err); err != nil && (code < 400 || code >= 500) {
				return nil, err
			}
			why := ""
			if err == nil {
				found[item.key()] = ca
			} else {
				why = err.Error()
			}
			if d.isNews("unread "+planeType+item.key(), why) && why != "" {
				d.log.Warn("failed to extract CA from plane CR", "planeType", planeType,
					"namespace", item.Metadata.Namespace, "name", item.Metadata.Name, "error", why)
			}
		}
	}
	return found, nil
}

// clientCA reads what a plane's clientCA says. Each era knows its own field for a Secret only. Without a namespace, that
// of the plane is meant, which a cluster-scoped one doesn't have.
func (d *double) clientCA(of era, item plane) ([]byte, error) {
	source := item.Spec.ClusterAgent.ClientCA
	if source.Value != "" {
		return []byte(source.Value), nil
	}
	ref := source.SecretRef
	if of == v1 {
		ref = source.SecretKeyRef
	}
	if ref == nil {
		return nil, unreadable("no valid CA data found in ValueFrom")
	}
	namespace := cmp.Or(ref.Namespace, item.Metadata.Namespace)
	if namespace == "" {
		return nil, unreadable("failed to get secret /%s: an empty namespace may not be set", ref.Name)
	}
	data, err := secret(d.control.get, "/api/v1/namespaces/"+url.PathEscape(namespace)+"/secrets/", ref.Name)
	if err != nil {
		return nil, fmt.Errorf("failed to get secret %s/%s: %w", namespace, ref.Name, err)
	}
	ca, there := data[ref.Key]
	if !there {
		return nil, unreadable("key %s not found in secret %s/%s", ref.Key, namespace, ref.Name)
	}
	if len(ca) == 0 {
		return nil, unreadable("CA data is empty in secret %s/%s key %s", namespace, ref.Name, ref.Key)
	}
	return ca, nil
}

// unreadable is the plane's fault, and not the API server's.
func unreadable(format string, words ...any) error {
	return answer{http.StatusNotFound, fmt.Sprintf(format, words...)}
}

func fingerprint(der []byte) string {
	return fmt.Sprintf("%x", sha256.Sum256(der))
}

// isNews tells whether something is other than it was, so that what is tried ten times a second is logged once.
func (d *double) isNews(about, now string) bool {
	d.Lock()
	defer d.Unlock()
	before := d.logged[about]
	d.logged[about] = now
	return now != before
}

// The connections.

// session is an agent's connection as the gateway keeps it.
type session struct {
	planeType, planeID string
	presented          []*x509.Certificate
	valid              []string // the planes that authorize it
	seen               time.Time
	beat               time.Time // the same by the gateway's clock
}

// ofPod is the header by which the double's own agents say which pod they are. Others never become sessions.
const ofPod = "Double-Pod"

func (d *double) connect(pod string, now session) {
	d.Lock()
	before := d.sessions[pod]
	d.sessions[pod] = &now
	d.Unlock()
	if before != nil && slices.Equal(before.valid, now.valid) {
		return
	}
	d.log.Info("agent connected successfully", "planeType", now.planeType, "planeID", now.planeID,
		"planeIdentifier", now.planeType+"/"+now.planeID, "connectionID", pod,
		"validCRs", now.valid, "validCRCount", len(now.valid))
}

// connected gives the sessions of a planeID by pod. An agent that returns all the time is gone once it hasn't been
// authorized for a while; one that stays is there until it is disconnected. The caller holds the lock.
func (d *double) connected(planeType, planeID string) map[string]*session {
	found := map[string]*session{}
	for pod, each := range d.sessions {
		switch {
		case d.settings.Load().stay:
			each.seen = time.Now()
			each.beat = each.seen.Add(d.mode.Load().ahead)
		case time.Since(each.seen) >= fresh:
			d.unregister(pod)
			continue
		}
		if each.planeType == planeType && each.planeID == planeID {
			found[pod] = each
		}
	}
	return found
}

// disconnect ends all connections of a planeID.
func (d *double) disconnect(planeType, planeID string) int {
	d.Lock()
	defer d.Unlock()
	found := d.connected(planeType, planeID)
	for pod := range found {
		d.unregister(pod)
	}
	return len(found)
}

// unregister ends a connection. The caller holds the lock.
func (d *double) unregister(pod string) {
	if each := d.sessions[pod]; each != nil {
		delete(d.sessions, pod)
		d.log.Info("agent unregistered", "planeIdentifier", each.planeType+"/"+each.planeID, "connectionID", pod)
	}
}

// The API for planes.

type planeStatus struct {
	PlaneType       string    `json:"planeType"`
	PlaneID         string    `json:"planeID"`
	Connected       bool      `json:"connected"`
	ConnectedAgents int       `json:"connectedAgents"`
	LastSeen        time.Time `json:"lastSeen"`
}

// status counts the agents of a planeID; with a plane's key, those that it authorizes.
func (d *double) status(planeType, planeID, key string) planeStatus {
	d.Lock()
	defer d.Unlock()
	told := planeStatus{PlaneType: planeType, PlaneID: planeID}
	for _, each := range d.connected(planeType, planeID) {
		if key != "" && !slices.Contains(each.valid, key) {
			continue
		}
		told.Connected = true
		told.ConnectedAgents++
		if each.beat.After(told.LastSeen) {
			told.LastSeen = each.beat.UTC()
		}
	}
	return told
}

func (d *double) planeRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/planes/{type}/{id}/status", func(w http.ResponseWriter, r *http.Request) {
		key, query := "", r.URL.Query()
		if name := query.Get("name"); name != "" {
			key = query.Get("namespace") + "/" + name
		}
		reply(w, d.status(r.PathValue("type"), r.PathValue("id"), key))
	})
	mux.HandleFunc("GET /api/v1/planes/status", func(w http.ResponseWriter, r *http.Request) {
		d.Lock()
		ids := map[[2]string]bool{}
		for _, each := range d.sessions {
			ids[[2]string{each.planeType, each.planeID}] = true
		}
		d.Unlock()
		all := []planeStatus{}
		for id := range ids {
			all = append(all, d.status(id[0], id[1], ""))
		}
		reply(w, map[string]any{"planes": all, "total": len(all)})
	})
	mux.HandleFunc("POST /api/v1/planes/{type}/{id}/reconnect", func(w http.ResponseWriter, r *http.Request) {
		count := d.disconnect(r.PathValue("type"), r.PathValue("id"))
		reply(w, done{Success: true, DisconnectedAgents: &count})
	})
	mux.HandleFunc("POST /api/v1/planes/notify", d.notified)
	return mux
}

// PlaneNotification is what the controller sends: its name is in what the gateway says of one that it can't read.
type PlaneNotification struct {
	PlaneType string `json:"planeType"`
	PlaneID   string `json:"planeID"`
	Event     string `json:"event"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// done is what the gateway says of a change, in its order.
type done struct {
	Success               bool   `json:"success"`
	Action                string `json:"action,omitempty"`
	DisconnectedAgents    *int   `json:"disconnectedAgents,omitempty"`
	AuthorizationsGranted *int   `json:"authorizationsGranted,omitempty"`
	AuthorizationsRevoked *int   `json:"authorizationsRevoked,omitempty"`
	Error                 string `json:"error,omitempty"`
}

func reply(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(body)
}

// notified is what the gateway does when the controller says that a plane changed.
func (d *double) notified(w http.ResponseWriter, r *http.Request) {
	var of PlaneNotification
	if err := json.NewDecoder(r.Body).Decode(&of); err != nil {
		reason := strings.Replace(err.Error(), "main.", "clustergateway.", 1)
		http.Error(w, "invalid payload: "+reason, http.StatusBadRequest)
		return
	}
	if of.PlaneType == "" || of.PlaneID == "" || of.Event == "" {
		http.Error(w, "missing required fields: planeType, planeID, event", http.StatusBadRequest)
		return
	}
	early := d.settings.Load().era == v0
	switch {
	case of.Event == "deleted", of.Event == "created" && early:
		count := d.disconnect(of.PlaneType, of.PlaneID)
		reply(w, done{Success: true, Action: "disconnect", DisconnectedAgents: &count})
		return
	case of.Event != "created" && of.Event != "updated":
		http.Error(w, "unknown event type: "+of.Event, http.StatusBadRequest)
		return
	}
	key := of.Namespace + "/" + of.Name
	bundles, err := d.bundles(of.PlaneType, of.PlaneID)
	ca, readable := bundles[key]
	switch {
	case err != nil:
		err = fmt.Errorf("failed to get CRs: %w", err)
	case !readable:
		err = fmt.Errorf("CR %s not found", key)
	}
	switch {
	case err != nil && early:
		count := d.disconnect(of.PlaneType, of.PlaneID)
		reply(w, done{Success: true, Action: "disconnect_fallback", DisconnectedAgents: &count, Error: err.Error()})
	case err != nil:
		text := "failed to fetch CR CA for re-validation: " + err.Error()
		http.Error(w, text, http.StatusServiceUnavailable)
	default:
		granted, revoked, err := d.revalidate(of.PlaneType, of.PlaneID, key, ca)
		if err != nil {
			http.Error(w, "re-validation failed: "+err.Error(), http.StatusInternalServerError)
			return
		}
		reply(w, done{
			Success: true, Action: "revalidate", AuthorizationsGranted: &granted, AuthorizationsRevoked: &revoked,
		})
	}
}

// revalidate judges the connections of a planeID anew for one plane. Nobody is disconnected by it.
func (d *double) revalidate(planeType, planeID, key string, ca []byte) (granted, revoked int, err error) {
	d.Lock()
	defer d.Unlock()
	found := d.connected(planeType, planeID)
	if len(found) == 0 {
		return 0, 0, nil
	}
	if _, some := verdict.Roots(ca); !some {
		return 0, 0, errors.New("failed to parse new CA certificate")
	}
	for pod, each := range found {
		presented := each.presented
		if d.settings.Load().era == v0 {
			presented = presented[:1] // the intermediates are forgotten
		}
		before, now := slices.Contains(each.valid, key), d.trusts(ca, presented)
		switch {
		case now && !before:
			granted++
			each.valid = append(slices.Clone(each.valid), key)
			d.log.Info("CR authorization granted to connection", "connectionID", pod, "cr", key)
		case before && !now:
			revoked++
			each.valid = slices.DeleteFunc(slices.Clone(each.valid), func(other string) bool { return other == key })
			d.log.Warn("CR authorization revoked from connection", "connectionID", pod, "cr", key)
		}
	}
	return granted, revoked, nil
}
