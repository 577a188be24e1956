package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The plane's cluster.

// roll brings the Deployment one step on: new pods first, then the old ones go.
func (s *site) roll() error {
	var wanted deployment
	if err := s.build.read(s.deployment, &wanted); answered(err) == http.StatusNotFound {
		wanted.Spec.Replicas = new(int)
	} else if err != nil {
		return err
	}
	var list struct{ Items []struct{ Metadata metadata } }
	if err := s.build.read(s.pods, &list); err != nil {
		return err
	}
	owner := fmt.Sprintf("%s/%d", wanted.Metadata.UID, wanted.Metadata.Generation)
	var current []*pod
	var old []string
	exists := map[string]bool{}
	for _, item := range list.Items {
		name, owners := item.Metadata.Name, item.Metadata.OwnerReferences
		if item.Metadata.Annotations[generation] == "" || len(owners) == 0 || owners[0].Name != s.name {
			continue
		}
		exists[name] = true
		if p := s.running[name]; p != nil && p.owner == owner {
			current = append(current, p)
		} else {
			old = append(old, name)
		}
	}
	for name := range s.running {
		if !exists[name] {
			s.halt(name)
		}
	}
	replicas := 1
	if wanted.Spec.Replicas != nil {
		replicas = *wanted.Spec.Replicas
	}
	for len(current) < replicas {
		p, err := s.create(&wanted, owner)
		if err != nil {
			return err
		}
		current = append(current, p)
	}
	settled := true
	for _, p := range current {
		if err := s.start(p); err != nil {
			return err
		}
		settled = settled && p.started() && time.Since(p.since) >= handover
	}
	if wanted.Metadata.UID != "" {
		if err := s.announce(&wanted, len(current), len(old)); err != nil {
			return err
		}
	}
	if !settled {
		return nil
	}
	for _, name := range old {
		// The process ends before its pod is gone: whoever sees no pod can rely on it that nobody connects any more.
		s.halt(name)
		path := s.pods + "/" + name + "?gracePeriodSeconds=0"
		if err := unlessGone(s.build.call("DELETE", path, nil, nil)); err != nil {
			return err
		}
	}
	return nil
}

func (s *site) create(wanted *deployment, owner string) (*pod, error) {
	p := &pod{owner: owner}
	p.log = slog.New(slog.NewJSONHandler(&p.journal, nil))
	if err := json.Unmarshal(wanted.Spec.Template.Spec, &p.spec); err != nil {
		return nil, err
	}
	annotations := map[string]string{generation: strconv.FormatInt(wanted.Metadata.Generation, 10)}
	maps.Copy(annotations, wanted.Spec.Template.Metadata.Annotations)
	spec := wanted.Spec.Template.Spec
	if s.settings.Load().logs {
		var fields map[string]any
		if err := json.Unmarshal(spec, &fields); err != nil {
			return nil, err
		}
		fields["nodeName"] = node
		spec, _ = json.Marshal(fields)
	}
	body := map[string]any{
		"metadata": map[string]any{
			"generateName": s.name + "-",
			"labels":       wanted.Spec.Template.Metadata.Labels,
			"annotations":  annotations,
			"ownerReferences": []any{map[string]any{
				"apiVersion": "apps/v1", "kind": "Deployment", "name": s.name, "uid": wanted.Metadata.UID, "controller": true,
			}},
		},
		"spec": spec,
	}
	var made struct{ Metadata metadata }
	if err := s.build.call("POST", s.pods, body, &made); err != nil {
		return nil, err
	}
	p.name = made.Metadata.Name
	s.Lock()
	s.running[p.name] = p
	s.Unlock()
	return p, nil
}

// Why a container of such an image never runs.
var stuck = map[string]string{"crashes": "CrashLoopBackOff", "unpullable": "ImagePullBackOff"}

// start is the kubelet: it mounts the pair and the gateway's CA, and starts the agent, which reads the pair this once.
// Without them the pod waits.
func (s *site) start(p *pod) error {
	if p.started() {
		return nil
	}
	reason := stuck[p.spec.agent().Image]
	if planeType := p.spec.argument("--plane-type="); !s.eraOf(p.spec.agent().Image).knows(planeType) {
		reason = stuck["crashes"]
		if p.waiting == "" {
			types := strings.Join(s.eraOf(p.spec.agent().Image).planeTypes(), "' or '")
			fmt.Fprintf(&p.journal, "Error: plane-type must be '%s', got: %s\n", types, planeType)
		}
	}
	certificate, key, err := s.pair(p.spec)
	if err == nil {
		err = s.serverCA(p.spec)
	}
	if answered(err) == http.StatusNotFound {
		reason, err = "ContainerCreating", nil
	}
	if err != nil {
		return err
	}
	if reason != "" {
		return s.wait(p, reason)
	}
	now := time.Now()
	running := map[string]any{"running": map[string]any{"startedAt": now.UTC().Format(time.RFC3339)}}
	if err := s.show(p, "Running", true, map[string]any{"state": running}); err != nil {
		return err
	}
	p.since, p.stop, p.done = now, make(chan struct{}), make(chan struct{})
	go s.agent(p, certificate, key)
	return nil
}

// eraOf gives the release of an agent, by its image's tag: that of the gateway where it has none.
func (s *site) eraOf(image string) era {
	_, tag, _ := strings.Cut(image, ":")
	if tagged, known := eras[tag]; known {
		return tagged
	}
	return s.settings.Load().era
}

// wait shows, once, why a pod's container doesn't run.
func (s *site) wait(p *pod, reason string) error {
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
	return s.show(p, phase, false, state)
}

// show writes a pod's status.
func (s *site) show(p *pod, phase string, ready bool, state map[string]any) error {
	condition := map[string]any{"type": "Ready", "status": map[bool]string{true: "True", false: "False"}[ready]}
	container := map[string]any{
		"name": "agent", "image": p.spec.agent().Image, "imageID": "", "restartCount": 0,
		"ready": ready, "started": ready,
	}
	maps.Copy(container, state)
	status := map[string]any{"phase": phase, "conditions": []any{condition}, "containerStatuses": []any{container}}
	return unlessGone(s.build.call("PATCH", s.pods+"/"+p.name+"/status", map[string]any{"status": status}, nil))
}

// announce writes the Deployment's status; while old pods are left a rollout isn't over, as kubectl understands it.
func (s *site) announce(wanted *deployment, current, old int) error {
	ready := 0
	for _, p := range s.running {
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
	return s.build.call("PATCH", s.deployment+"/status", map[string]any{"status": status}, nil)
}

// halt ends a pod's agent, and waits for its last attempt: cut short, it would be neither authorized nor refused.
func (s *site) halt(name string) {
	p := s.running[name]
	if p == nil {
		return
	}
	if p.started() {
		close(p.stop)
		<-p.done
	}
	s.Lock()
	delete(s.running, name)
	s.unregister(name)
	s.Unlock()
}

// pair reads what the volume client-certs holds now. A pair that isn't there is an answer too: not found.
func (s *site) pair(spec podSpec) (certificate, key []byte, err error) {
	for _, volume := range spec.Volumes {
		if volume.Name != "client-certs" || volume.Secret.SecretName == "" {
			continue
		}
		data, err := secret(s.build.read, s.secrets, volume.Secret.SecretName)
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
func (s *site) serverCA(spec podSpec) error {
	for _, volume := range spec.Volumes {
		if volume.Name == "server-ca" && volume.ConfigMap.Name != "" {
			return s.build.get(s.configMaps+url.PathEscape(volume.ConfigMap.Name), nil)
		}
	}
	return nil
}

// The agents.

// agent is a pod's process.
func (s *site) agent(p *pod, certificate, key []byte) {
	defer close(p.done)
	p.log.Info("connecting to control plane", "url", p.spec.argument("--server-url="))
	last := ""
	for tick := time.Tick(often); ; {
		if !s.stays(p.name) {
			o := s.attempt(p.spec, certificate, key, p.name)
			s.record("pod", p.spec, o)
			if last != o.is {
				last = o.is
				p.note(o)
			}
		}
		select {
		case <-p.stop:
			return
		case <-tick:
		}
	}
}

// stays tells whether a pod's agent has a connection that it is to keep.
func (s *site) stays(pod string) bool {
	s.Lock()
	defer s.Unlock()
	return s.settings.Load().stay && s.sessions[pod] != nil
}

// note writes into an agent's log what became of its connection, which is all that an agent knows.
func (p *pod) note(o outcome) {
	switch o.is {
	case authorized:
		p.log.Info("connected to control plane")
	case refused:
		p.log.Error("connection failed", "error", "dial failed: websocket: bad handshake")
	default:
		p.log.Error("connection failed", "error", "dial failed: "+o.text)
	}
}

// restless is an agent that might be restarted at any time: it always presents what the Secret holds now. Between its
// reading and its connecting the world may change, as it may for any agent that starts.
func (s *site) restless() error {
	var wanted deployment
	var spec podSpec
	var certificate, key []byte
	err := s.build.read(s.deployment, &wanted)
	if err == nil {
		err = json.Unmarshal(wanted.Spec.Template.Spec, &spec)
	}
	if err == nil {
		certificate, key, err = s.pair(spec)
	}
	if err != nil {
		s.record("restless", spec, outcome{is: failed, text: err.Error()})
	} else {
		s.record("restless", spec, s.attempt(spec, certificate, key, ""))
	}
	return nil
}

type outcome struct {
	is, text, leaf string
	status         int
}

const authorized, refused, failed = "authorized", "refused", "failed"

// attempt makes one that asks for no upgrade, over a connection of its own. Whom it talks to is not what is asked here.
// With a pod's name it counts as that pod's connection.
func (s *site) attempt(spec podSpec, certificate, key []byte, pod string) outcome {
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
	request, err := http.NewRequest("GET", fmt.Sprintf("https://127.0.0.1:%d/ws?%s", s.port, query.Encode()), nil)
	if err != nil {
		o.text = err.Error()
		return o
	}
	if pod != "" {
		request.Header.Set(ofPod, pod)
	}
	response, err := client.Do(request)
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

func (s *site) record(kind string, spec podSpec, o outcome) {
	s.Lock()
	defer s.Unlock()
	s.attempts[kind][o.is]++
	s.own[o.is]++
	agent := kind + " of " + s.title()
	now := o.is + " " + agent
	if o.is == refused {
		now += " " + o.text
		if len(s.refusals) < 20 {
			s.refusals = append(s.refusals, map[string]any{
				"time": time.Now().UTC().Format(time.RFC3339Nano), "kind": kind,
				"status": o.status, "text": o.text, "sha256": o.leaf, "agent": s.title(),
				"planeType": spec.argument("--plane-type="), "planeID": spec.argument("--plane-id="),
			})
		}
	}
	if s.fortune[agent] == now {
		return
	}
	s.fortune[agent] = now
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
