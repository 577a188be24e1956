// Stands in for what of OpenChoreo and Kubernetes runs around a build plane: `double CONTROL BUILD NAMESPACE DEPLOYMENT`
// works on two API servers, each named by its folder of tests/control-plane/up, and may be given one folder twice. It is
// the cluster gateway, the controller that reports agents, the Deployment's controller and kubelet, its agents, and
// cert-manager where its CRDs are.
//
// It writes the gateway's CA to gateway.crt in the first folder, prints `ready PORT` and each change of the agents'
// fortune. A line `count` on stdin asks for the numbers; at the end of stdin, or a signal, it prints them a last time.
// The other lines are answered with `ok`: `reset` begins the numbers anew, `gateway MODE` gives the gateway one of the
// modes below, `reports off` and `reports on` say whether the controller reports, `issuing off` and `issuing on` whether
// cert-manager works. A container of the image `crashes` or `unpullable` never runs.
package main

import (
	"bufio"
	"bytes"
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
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"choreoctl.dev/gateway/verdict"
)

const (
	often      = 100 * time.Millisecond // between an agent's attempts, and between looks at the Deployment
	reporting  = 300 * time.Millisecond // between the controller's reports
	handover   = 200 * time.Millisecond // for which old pods run beside new ones
	fresh      = time.Second            // for which an attempt counts as a connection
	generation = "double/generation"    // the annotation that tells which generation made a pod
	planes     = "/apis/openchoreo.dev/v1alpha1/clusterbuildplanes"
)

// The fields that are read; JSON's names match these whatever their case.
type (
	metadata struct {
		Name, UID           string
		Generation          int64
		Labels, Annotations map[string]string
		OwnerReferences     []struct{ Kind, Name string }
	}
	plane struct {
		Metadata metadata
		Spec     struct {
			PlaneID      string
			ClusterAgent struct {
				ClientCA struct {
					Value     string
					SecretRef struct{ Namespace, Name, Key string }
				}
			}
		}
		Status struct{ AgentConnection *connection }
	}
	deployment struct {
		Metadata metadata
		Spec     struct {
			Replicas *int
			Template struct {
				Metadata metadata
				Spec     json.RawMessage
			}
		}
		Status rollout
	}
	podSpec struct {
		Containers []container
		Volumes    []struct {
			Name      string
			Secret    struct{ SecretName string }
			ConfigMap struct{ Name string }
		}
	}
	container struct {
		Name, Image string
		Args        []string
	}
)

// The fields that are written.
type (
	connection struct {
		Connected            bool   `json:"connected"`
		ConnectedAgents      int    `json:"connectedAgents"`
		LastConnectedTime    string `json:"lastConnectedTime,omitempty"`
		LastDisconnectedTime string `json:"lastDisconnectedTime,omitempty"`
		LastHeartbeatTime    string `json:"lastHeartbeatTime,omitempty"`
		Message              string `json:"message"`
	}
	rollout struct {
		ObservedGeneration int64 `json:"observedGeneration"`
		Replicas           int   `json:"replicas"`
		UpdatedReplicas    int   `json:"updatedReplicas"`
		ReadyReplicas      int   `json:"readyReplicas"`
		AvailableReplicas  int   `json:"availableReplicas"`
	}
)

// pod is one that this program made. What isn't among its pods belongs to an earlier run, and goes like an old one.
type pod struct {
	name, owner string // owner is the Deployment's UID and generation
	spec        podSpec
	waiting     string    // for which reason, as was shown
	since       time.Time // when its agent started
	stop, done  chan struct{}
	leaf        string    // what the agent presents; it writes this and the next
	authorized  time.Time // when it last got in
}

func (p *pod) started() bool {
	return p.stop != nil
}

type double struct {
	control, build *api
	pods           string // paths in the build cluster
	secrets        string
	configMaps     string
	certificates   string
	requests       string
	issuers        string
	deployment     string
	name           string // of the Deployment
	gateway        string // where it listens
	leaves         [3]tls.Certificate
	mode           atomic.Pointer[mode]
	reports        sync.Mutex  // held while the controller reports; guards the next
	mute           bool        // whether it reports nothing
	idle           atomic.Bool // whether cert-manager does nothing
	sync.Mutex                 // guards all below, and stdout
	running        map[string]*pod
	trustedBy      map[string][]string  // by planeID and leaf: the planes that authorized it at its last connection
	seen           map[string]time.Time // by planeID
	fortune        map[string]string    // by kind of agent
	attempts       map[string]map[string]int
	refusals       []any
	upgrades       int // connections that would have become agents
}

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: double CONTROL_FOLDER BUILD_FOLDER NAMESPACE DEPLOYMENT")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

func run(control, build, namespace, name string) error {
	d := &double{
		pods:         "/api/v1/namespaces/" + namespace + "/pods",
		secrets:      "/api/v1/namespaces/" + namespace + "/secrets/",
		configMaps:   "/api/v1/namespaces/" + namespace + "/configmaps/",
		deployment:   "/apis/apps/v1/namespaces/" + namespace + "/deployments/" + name,
		certificates: "/apis/cert-manager.io/v1/namespaces/" + namespace + "/certificates",
		requests:     "/apis/cert-manager.io/v1/namespaces/" + namespace + "/certificaterequests",
		issuers:      "/apis/cert-manager.io/v1/namespaces/" + namespace + "/issuers",
		name:         name,
		running:      map[string]*pod{},
		trustedBy:    map[string][]string{},
		seen:         map[string]time.Time{},
		fortune:      map[string]string{},
	}
	d.reset()
	d.mode.Store(&mode{over: make(chan struct{})})
	var err error
	if d.control, err = newAPI(control); err != nil {
		return err
	}
	if d.build, err = newAPI(build); err != nil {
		return err
	}
	listener, err := d.listen()
	if err != nil {
		return err
	}
	d.gateway = listener.Addr().String()
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, os.Interrupt)
	// What becomes of a handshake is for the client to tell.
	server := http.Server{Handler: d.handler(), ErrorLog: log.New(io.Discard, "", 0)}
	go server.Serve(listener)
	fmt.Println("ready", listener.Addr().(*net.TCPAddr).Port)
	go poll(often, d.roll)
	go poll(often, d.restless)
	go poll(reporting, d.tell)
	go poll(reporting, d.issueAll)
	go d.listenTo(os.Stdin, ended)
	<-ended
	d.Lock() // for good: nothing follows the last line
	fmt.Println(d.report())
	return nil
}

// poll repeats a step. An error that lasts is told once.
func poll(interval time.Duration, step func() error) {
	told := ""
	for tick := time.Tick(interval); ; <-tick {
		now := ""
		if err := step(); err != nil {
			now = err.Error()
		}
		if now != told && now != "" {
			fmt.Fprintln(os.Stderr, now)
		}
		told = now
	}
}

func (d *double) listenTo(input io.Reader, ended chan<- os.Signal) {
	for lines := bufio.NewScanner(input); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if line == "reports off" || line == "reports on" {
			d.reports.Lock() // no report is on its way
			d.mute = line == "reports off"
			d.reports.Unlock()
		}
		d.Lock()
		name, gateway := strings.CutPrefix(line, "gateway ")
		next, known := modes[name]
		switch {
		case line == "count":
			fmt.Println(d.report())
		case line == "reset":
			d.reset()
			fmt.Println("ok")
		case line == "reports off", line == "reports on":
			fmt.Println("ok")
		case line == "issuing off", line == "issuing on":
			d.idle.Store(line == "issuing off")
			fmt.Println("ok")
		case gateway && known:
			next.over = make(chan struct{})
			close(d.mode.Swap(&next).over)
			fmt.Println("ok")
		default:
			fmt.Fprintf(os.Stderr, "not understood: %q\n", line)
		}
		d.Unlock()
	}
	ended <- os.Interrupt
}

func (d *double) reset() {
	d.attempts, d.refusals = map[string]map[string]int{}, []any{}
	for _, kind := range []string{"pod", "restless"} {
		d.attempts[kind] = map[string]int{authorized: 0, refused: 0, failed: 0}
	}
}

func (d *double) report() string {
	text, _ := json.Marshal(map[string]any{"attempts": d.attempts, "refusals": d.refusals, "upgrades": d.upgrades})
	return string(text)
}

// The gateway.

// mode is how the gateway is to whoever connects.
type mode struct {
	presents   int           // which of the leaves
	terminated bool          // TLS ends before it: nobody is asked for a certificate
	dropping   bool          // it rejects any certificate in the handshake
	silent     bool          // it accepts connections, and sends nothing
	blind      bool          // its API server is gone
	other      bool          // it is no gateway
	ahead      time.Duration // by which its clock is
	build      string        // what it calls a build plane, when not as of old
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
	"newer":      {build: "workflowplane"},
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

func (by issuer) issue(key *ecdsa.PrivateKey, until time.Time) (tls.Certificate, error) {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "gateway"},
		DNSNames:    []string{"localhost"}, // and no address, which the chart can't make either
		NotBefore:   time.Now().Add(-2 * time.Hour),
		NotAfter:    until,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.certificate, key.Public(), by.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func (d *double) listen() (net.Listener, error) {
	own, err := newIssuer("gateway-ca")
	if err != nil {
		return nil, err
	}
	stranger, err := newIssuer("stranger")
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
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
		if d.leaves[leaf], err = made.by.issue(key, made.until); err != nil {
			return nil, err
		}
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.certificate.Raw})
	if err := os.WriteFile(filepath.Join(os.Args[1], "gateway.crt"), ca, 0o644); err != nil {
		return nil, err
	}
	return tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetConfigForClient: d.greet})
}

// greet decides on a handshake.
func (d *double) greet(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	m := d.mode.Load()
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
	config := &tls.Config{
		Certificates: d.leaves[m.presents : m.presents+1],
		ClientAuth:   tls.RequestClientCert,
		MinVersion:   tls.VersionTLS12,
		// No handshake is spared by one that was made in another mode.
		SessionTicketsDisabled: true,
	}
	if m.terminated {
		config.ClientAuth = tls.NoClientCert
	}
	if m.dropping {
		config.ClientAuth = tls.RequireAnyClientCert
		config.VerifyConnection = func(tls.ConnectionState) error { return errors.New("dropped") }
	}
	return config, nil
}

func (d *double) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ws", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		status, text := d.judge(query.Get("planeType"), query.Get("planeID"), r.TLS.PeerCertificates)
		if status == http.StatusSwitchingProtocols {
			// Whoever is let in without asking for an upgrade is told which one there is.
			w.Header().Set("Sec-Websocket-Version", "13")
			status, text = http.StatusBadRequest, "Bad Request"
		}
		if r.Header.Get("Upgrade") != "" {
			d.Lock()
			d.upgrades++
			d.Unlock()
		}
		http.Error(w, text, status)
	})
	mux.HandleFunc("GET /api/v1/planes/{type}/{id}/status", func(w http.ResponseWriter, r *http.Request) {
		planeType, planeID := r.PathValue("type"), r.PathValue("id")
		agents := d.agents(planeType, planeID, r.URL.Query().Get("name"))
		d.Lock()
		seen := d.seen[planeType+"/"+planeID]
		d.Unlock()
		if !seen.IsZero() {
			seen = seen.Add(d.mode.Load().ahead)
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{
			"planeType": planeType, "planeID": planeID,
			"connected": agents > 0, "connectedAgents": agents, "lastSeen": seen.UTC(),
		})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := d.mode.Load()
		w.Header().Set("Date", time.Now().Add(m.ahead).UTC().Format(http.TimeFormat))
		if m.other {
			http.Error(w, "upstream is away", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// judge answers a connection with what the planes and Secrets say at this moment.
func (d *double) judge(planeType, planeID string, presented []*x509.Certificate) (int, string) {
	m := d.mode.Load()
	build := cmp.Or(m.build, "buildplane")
	switch {
	case planeType == "":
		return http.StatusBadRequest, "missing planeType parameter"
	case planeID == "":
		return http.StatusBadRequest, "missing planeID parameter"
	case planeType != "dataplane" && planeType != build && planeType != "observabilityplane":
		text := "invalid planeType: must be 'dataplane', '%s', or 'observabilityplane'"
		return http.StatusBadRequest, fmt.Sprintf(text, build)
	case len(presented) == 0:
		return http.StatusUnauthorized, "no client certificate presented"
	case m.blind:
		return http.StatusUnauthorized, unverified + unread + "the API server is gone"
	}
	bundles, err := d.bundles(planeType, planeID)
	if err != nil {
		return http.StatusUnauthorized, unverified + unread + err.Error()
	}
	if len(bundles) == 0 {
		return http.StatusUnauthorized, fmt.Sprintf("%sno %s CRs found with planeID '%s'", unverified, planeType, planeID)
	}
	var trusting []string
	for name, ca := range bundles {
		roots, _ := verdict.Roots(ca)
		if verdict.Verify(roots, presented, time.Now().Add(m.ahead)) == nil {
			trusting = append(trusting, name)
		}
	}
	d.Lock()
	d.trustedBy[planeID+"/"+fingerprint(presented[0].Raw)] = trusting
	d.Unlock()
	if len(trusting) == 0 {
		return http.StatusUnauthorized, fmt.Sprintf("%scertificate not valid for any CR with planeID '%s'", unverified, planeID)
	}
	return http.StatusSwitchingProtocols, ""
}

const (
	unverified = "client certificate verification failed: "
	unread     = "failed to get client CA configurations: "
)

// bundles reads the CAs of the planes that have this planeID, literally; one that can't be read is left out. The gateway
// also leaves out those that it can't read because the API server is gone, but here that isn't to count as a refusal.
func (d *double) bundles(planeType, planeID string) (map[string][]byte, error) {
	found := map[string][]byte{}
	if planeType != "buildplane" {
		return found, nil
	}
	var list struct{ Items []plane }
	if err := d.control.call("GET", planes, nil, &list); err != nil {
		return nil, err
	}
	for _, item := range list.Items {
		source := item.Spec.ClusterAgent.ClientCA
		if item.Spec.PlaneID != planeID {
			continue
		}
		if source.Value != "" {
			found[item.Metadata.Name] = []byte(source.Value)
			continue
		}
		if source.SecretRef.Namespace == "" || source.SecretRef.Name == "" {
			continue
		}
		path := "/api/v1/namespaces/" + url.PathEscape(source.SecretRef.Namespace) + "/secrets/"
		data, err := d.control.secret(path, source.SecretRef.Name)
		if code := answered(err); err != nil && (code < 400 || code >= 500) {
			return nil, err
		}
		if ca, ok := data[source.SecretRef.Key]; ok {
			found[item.Metadata.Name] = ca
		}
	}
	return found, nil
}

func fingerprint(der []byte) string {
	return fmt.Sprintf("%x", sha256.Sum256(der))
}

// agents counts the pods that are connected; with a plane's name, those that it authorized.
func (d *double) agents(planeType, planeID, name string) int {
	d.Lock()
	defer d.Unlock()
	count := 0
	for _, p := range d.running {
		if p.spec.argument("--plane-type=") != planeType || p.spec.argument("--plane-id=") != planeID {
			continue
		}
		trusted := name == "" || slices.Contains(d.trustedBy[planeID+"/"+p.leaf], name)
		if trusted && time.Since(p.authorized) < fresh {
			count++
		}
	}
	return count
}

// tell is the controller: it reports each planeID's agents in the planes.
func (d *double) tell() error {
	d.reports.Lock()
	defer d.reports.Unlock()
	if d.mute {
		return nil
	}
	var list struct{ Items []plane }
	if err := d.control.call("GET", planes, nil, &list); err != nil {
		return err
	}
	for _, item := range list.Items {
		var before, after connection
		if item.Status.AgentConnection != nil {
			before = *item.Status.AgentConnection
		}
		after = before
		after.ConnectedAgents = d.agents("buildplane", item.Spec.PlaneID, "")
		after.Connected = after.ConnectedAgents > 0
		now := time.Now().UTC().Format(time.RFC3339)
		switch after.ConnectedAgents {
		case 0:
			after.Message = "No agents connected"
		case 1:
			after.Message = "1 agent connected"
		default:
			after.Message = fmt.Sprintf("%d agents connected (HA mode)", after.ConnectedAgents)
		}
		if after.Connected {
			after.LastHeartbeatTime = now
		}
		if after.Connected && !before.Connected {
			after.LastConnectedTime = now
		}
		if before.Connected && !after.Connected {
			after.LastDisconnectedTime = now
		}
		if after == before {
			continue
		}
		patch := map[string]any{"status": map[string]any{"agentConnection": after}}
		path := planes + "/" + item.Metadata.Name + "/status"
		if err := unlessGone(d.control.call("PATCH", path, patch, nil)); err != nil {
			return err
		}
	}
	return nil
}

// The build cluster.

// roll brings the Deployment one step on: new pods first, then the old ones go.
func (d *double) roll() error {
	var wanted deployment
	if err := d.build.call("GET", d.deployment, nil, &wanted); answered(err) == http.StatusNotFound {
		wanted.Spec.Replicas = new(int)
	} else if err != nil {
		return err
	}
	var list struct{ Items []struct{ Metadata metadata } }
	if err := d.build.call("GET", d.pods, nil, &list); err != nil {
		return err
	}
	owner := fmt.Sprintf("%s/%d", wanted.Metadata.UID, wanted.Metadata.Generation)
	var current []*pod
	var old []string
	exists := map[string]bool{}
	for _, item := range list.Items {
		name, owners := item.Metadata.Name, item.Metadata.OwnerReferences
		if item.Metadata.Annotations[generation] == "" || len(owners) == 0 || owners[0].Name != d.name {
			continue
		}
		exists[name] = true
		if p := d.running[name]; p != nil && p.owner == owner {
			current = append(current, p)
		} else {
			old = append(old, name)
		}
	}
	for name := range d.running {
		if !exists[name] {
			d.halt(name)
		}
	}
	replicas := 1
	if wanted.Spec.Replicas != nil {
		replicas = *wanted.Spec.Replicas
	}
	for len(current) < replicas {
		p, err := d.create(&wanted, owner)
		if err != nil {
			return err
		}
		current = append(current, p)
	}
	settled := true
	for _, p := range current {
		if err := d.start(p); err != nil {
			return err
		}
		settled = settled && p.started() && time.Since(p.since) >= handover
	}
	if wanted.Metadata.UID != "" {
		if err := d.announce(&wanted, len(current), len(old)); err != nil {
			return err
		}
	}
	if !settled {
		return nil
	}
	for _, name := range old {
		// The process ends before its pod is gone: whoever sees no pod can rely on it that nobody connects any more.
		d.halt(name)
		path := d.pods + "/" + name + "?gracePeriodSeconds=0"
		if err := unlessGone(d.build.call("DELETE", path, nil, nil)); err != nil {
			return err
		}
	}
	return nil
}

func (d *double) create(wanted *deployment, owner string) (*pod, error) {
	p := &pod{owner: owner}
	if err := json.Unmarshal(wanted.Spec.Template.Spec, &p.spec); err != nil {
		return nil, err
	}
	annotations := map[string]string{generation: strconv.FormatInt(wanted.Metadata.Generation, 10)}
	maps.Copy(annotations, wanted.Spec.Template.Metadata.Annotations)
	body := map[string]any{
		"metadata": map[string]any{
			"generateName": d.name + "-",
			"labels":       wanted.Spec.Template.Metadata.Labels,
			"annotations":  annotations,
			"ownerReferences": []any{map[string]any{
				"apiVersion": "apps/v1", "kind": "Deployment", "name": d.name, "uid": wanted.Metadata.UID, "controller": true,
			}},
		},
		"spec": wanted.Spec.Template.Spec,
	}
	var made struct{ Metadata metadata }
	if err := d.build.call("POST", d.pods, body, &made); err != nil {
		return nil, err
	}
	p.name = made.Metadata.Name
	d.Lock()
	d.running[p.name] = p
	d.Unlock()
	return p, nil
}

// Why a container of such an image never runs.
var stuck = map[string]string{"crashes": "CrashLoopBackOff", "unpullable": "ImagePullBackOff"}

// start is the kubelet: it mounts the pair and the gateway's CA, and starts the agent, which reads the pair this once.
// Without them the pod waits.
func (d *double) start(p *pod) error {
	if p.started() {
		return nil
	}
	reason := stuck[p.spec.agent().Image]
	certificate, key, err := d.pair(p.spec)
	if err == nil {
		err = d.serverCA(p.spec)
	}
	if answered(err) == http.StatusNotFound {
		reason, err = "ContainerCreating", nil
	}
	if err != nil {
		return err
	}
	if reason != "" {
		return d.wait(p, reason)
	}
	now := time.Now()
	running := map[string]any{"running": map[string]any{"startedAt": now.UTC().Format(time.RFC3339)}}
	if err := d.show(p, "Running", true, map[string]any{"state": running}); err != nil {
		return err
	}
	p.since, p.stop, p.done = now, make(chan struct{}), make(chan struct{})
	go d.agent(p, certificate, key)
	return nil
}

// wait shows, once, why a pod's container doesn't run.
func (d *double) wait(p *pod, reason string) error {
	if p.waiting == reason {
		return nil
	}
	p.waiting = reason
	phase, state := "Pending", map[string]any{"state": map[string]any{"waiting": map[string]any{"reason": reason}}}
	if reason == stuck["crashes"] {
		phase = "Running" // as it was before
		state["restartCount"] = 5
		state["lastState"] = map[string]any{"terminated": map[string]any{"exitCode": 1, "reason": "Error"}}
	}
	return d.show(p, phase, false, state)
}

// show writes a pod's status.
func (d *double) show(p *pod, phase string, ready bool, state map[string]any) error {
	condition := map[string]any{"type": "Ready", "status": map[bool]string{true: "True", false: "False"}[ready]}
	container := map[string]any{
		"name": "agent", "image": p.spec.agent().Image, "imageID": "", "restartCount": 0,
		"ready": ready, "started": ready,
	}
	maps.Copy(container, state)
	status := map[string]any{"phase": phase, "conditions": []any{condition}, "containerStatuses": []any{container}}
	return unlessGone(d.build.call("PATCH", d.pods+"/"+p.name+"/status", map[string]any{"status": status}, nil))
}

// announce writes the Deployment's status; while old pods are left a rollout isn't over, as kubectl understands it.
func (d *double) announce(wanted *deployment, current, old int) error {
	ready := 0
	for _, p := range d.running {
		if p.started() {
			ready++
		}
	}
	status := rollout{
		ObservedGeneration: wanted.Metadata.Generation,
		Replicas:           current + old,
		UpdatedReplicas:    current,
		ReadyReplicas:      ready,
		AvailableReplicas:  ready,
	}
	if status == wanted.Status {
		return nil
	}
	return d.build.call("PATCH", d.deployment+"/status", map[string]any{"status": status}, nil)
}

// halt ends a pod's agent, and waits for its last attempt: cut short, it would be neither authorized nor refused.
func (d *double) halt(name string) {
	p := d.running[name]
	if p == nil {
		return
	}
	if p.started() {
		close(p.stop)
		<-p.done
	}
	d.Lock()
	delete(d.running, name)
	d.Unlock()
}

// pair reads what the volume client-certs holds now. A pair that isn't there is an answer too: not found.
func (d *double) pair(spec podSpec) (certificate, key []byte, err error) {
	for _, volume := range spec.Volumes {
		if volume.Name != "client-certs" || volume.Secret.SecretName == "" {
			continue
		}
		data, err := d.build.secret(d.secrets, volume.Secret.SecretName)
		if err != nil {
			return nil, nil, err
		}
		if data["tls.crt"] == nil || data["tls.key"] == nil {
			return nil, nil, answer{http.StatusNotFound, "the Secret " + volume.Secret.SecretName + " holds no pair"}
		}
		return data["tls.crt"], data["tls.key"], nil
	}
	return nil, nil, answer{http.StatusNotFound, "no volume client-certs of a Secret"}
}

// serverCA looks for the ConfigMap of the volume server-ca.
func (d *double) serverCA(spec podSpec) error {
	for _, volume := range spec.Volumes {
		if volume.Name == "server-ca" && volume.ConfigMap.Name != "" {
			return d.build.call("GET", d.configMaps+url.PathEscape(volume.ConfigMap.Name), nil, nil)
		}
	}
	return nil
}

// The agents.

// agent is a pod's process.
func (d *double) agent(p *pod, certificate, key []byte) {
	defer close(p.done)
	for tick := time.Tick(often); ; {
		o := d.connect(p.spec, certificate, key)
		d.record("pod", o)
		d.Lock()
		p.leaf = o.leaf
		if o.is == authorized {
			p.authorized = time.Now()
			d.seen[p.spec.argument("--plane-type=")+"/"+p.spec.argument("--plane-id=")] = p.authorized
		}
		d.Unlock()
		select {
		case <-p.stop:
			return
		case <-tick:
		}
	}
}

// restless is an agent that might be restarted at any time: it always presents what the Secret holds now. Between its
// reading and its connecting the world may change, as it may for any agent that starts.
func (d *double) restless() error {
	var wanted deployment
	var spec podSpec
	var certificate, key []byte
	err := d.build.call("GET", d.deployment, nil, &wanted)
	if err == nil {
		err = json.Unmarshal(wanted.Spec.Template.Spec, &spec)
	}
	if err == nil {
		certificate, key, err = d.pair(spec)
	}
	if err != nil {
		d.record("restless", outcome{is: failed, text: err.Error()})
	} else {
		d.record("restless", d.connect(spec, certificate, key))
	}
	return nil
}

type outcome struct {
	is, text, leaf string
	status         int
}

const authorized, refused, failed = "authorized", "refused", "failed"

// connect makes one attempt that asks for no upgrade, over a connection of its own. Whom it talks to is not what is
// asked here.
func (d *double) connect(spec podSpec, certificate, key []byte) outcome {
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return outcome{is: failed, text: err.Error()}
	}
	o := outcome{is: failed, leaf: fingerprint(pair.Certificate[0])}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true},
	}}
	query := url.Values{"planeType": {spec.argument("--plane-type=")}, "planeID": {spec.argument("--plane-id=")}}
	response, err := client.Get("https://" + d.gateway + "/ws?" + query.Encode())
	if err != nil {
		o.text = err.Error()
		return o
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	o.status, o.text = response.StatusCode, strings.TrimPrefix(strings.TrimSpace(string(body)), unverified)
	switch {
	case o.status == http.StatusBadRequest && response.Header.Get("Sec-Websocket-Version") == "13":
		o.is = authorized
	case err == nil && !strings.HasPrefix(o.text, unread):
		o.is = refused
	}
	return o
}

func (d *double) record(kind string, o outcome) {
	d.Lock()
	defer d.Unlock()
	d.attempts[kind][o.is]++
	now := o.is + " " + kind
	if o.is == refused {
		now += " " + o.text
		if len(d.refusals) < 20 {
			d.refusals = append(d.refusals, map[string]any{
				"time": time.Now().UTC().Format(time.RFC3339Nano), "kind": kind,
				"status": o.status, "text": o.text, "sha256": o.leaf,
			})
		}
	}
	if d.fortune[kind] == now {
		return
	}
	d.fortune[kind] = now
	if o.is == failed {
		// Told but not compared: it may name a port that is another each time.
		now += " " + o.text
	}
	fmt.Println(now)
}

func (spec podSpec) agent() container {
	for _, each := range spec.Containers {
		if each.Name == "agent" {
			return each
		}
	}
	return container{}
}

func (spec podSpec) argument(prefix string) string {
	for _, argument := range spec.agent().Args {
		if value, ok := strings.CutPrefix(argument, prefix); ok {
			return value
		}
	}
	return ""
}

// The API servers.

type api struct {
	server, token string
	client        http.Client
}

// answer is what an API server says instead of doing what it was asked.
type answer struct {
	status int
	text   string
}

func (a answer) Error() string {
	return a.text
}

// answered gives the status of an API server's refusal; 0 when there was none, or no answer at all.
func answered(err error) int {
	var a answer
	errors.As(err, &a)
	return a.status
}

// unlessGone forgives that what was to be written is deleted: the next look will find it gone.
func unlessGone(err error) error {
	if answered(err) == http.StatusNotFound {
		return nil
	}
	return err
}

func newAPI(folder string) (*api, error) {
	var contents [3]string
	for i, file := range []string{"api-port", "tokens.csv", "apiserver.crt"} {
		content, err := os.ReadFile(filepath.Join(folder, file))
		if err != nil {
			return nil, err
		}
		contents[i] = strings.TrimSpace(string(content))
	}
	token, _, _ := strings.Cut(contents[1], ",")
	roots, _ := verdict.Roots([]byte(contents[2]))
	return &api{server: "https://127.0.0.1:" + contents[0], token: token, client: http.Client{
		Timeout: 10 * time.Second,
		// One connection carries all requests.
		Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots}},
	}}, nil
}

func (a *api) call(method, path string, body, into any) error {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return err
		}
	}
	request, err := http.NewRequest(method, a.server+path, bytes.NewReader(content))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+a.token)
	request.Header.Set("Content-Type", "application/json")
	if method == "PATCH" {
		request.Header.Set("Content-Type", "application/merge-patch+json")
	}
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if content, err = io.ReadAll(response.Body); err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		var status struct{ Message string }
		json.Unmarshal(content, &status)
		return answer{response.StatusCode, cmp.Or(status.Message, response.Status)}
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(content, into)
}

// secret takes the path of the namespace's Secrets.
func (a *api) secret(path, name string) (map[string][]byte, error) {
	var secret struct{ Data map[string][]byte }
	err := a.call("GET", path+url.PathEscape(name), nil, &secret)
	return secret.Data, err
}
