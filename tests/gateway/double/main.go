// Stands in for what of OpenChoreo and Kubernetes runs around planes: `double CONTROL (BUILD NAMESPACE DEPLOYMENT)...`
// works on API servers, each named by its folder of tests/control-plane/up, and may be given one folder many times. It is
// the cluster gateway, the controller that reports agents, each Deployment's controller and kubelet, its agents, and
// cert-manager where its CRDs are.
//
// In the first folder it writes the gateway's CA to gateway.crt, the CA of the internal API to internal-ca.crt, and what
// the controller presents there to controller.crt and controller.key. It prints `ready PORT` and `api PORT`, and each
// change of the agents' fortune. A line `count` on stdin asks for the numbers; at the end of stdin, or a signal, it prints
// them a last time. The other lines are answered with `ok`:
//
//   - `reset` begins the numbers anew.
//   - `era v0` or `era v1` begins anew as a gateway and a controller of these releases, and as agents whose images have no
//     tag. At first it is v0, which knows planes; v1 knows workflow planes.
//   - `gateway MODE` gives the gateway one of its modes, as `gateway expired`.
//   - `api shared`, `api open` or `api mutual` serves the API for planes at the agents' port, at a port of its own, or there
//     to clients that the internal CA knows. An era begins with v0.17's or v1.2's.
//   - `finalizers on` or `off`: whether the controller holds planes by its finalizer, and sets their condition Created. An
//     era begins as off in v0, where most stories make their planes themselves, and on in v1.
//   - `agents stay` or `return`: whether agents keep their connection until it is ended, or are always about to return.
//   - `reports on` or `off`: whether the controller runs.
//   - `issuing on` or `off`: whether cert-manager does.
//   - `logs on`: both API servers get the node `double`, which serves the agents' logs, and the gateway's as that of any
//     container of another name. New pods of agents are on it.
//   - `say agents TEXT` or `say gateway TEXT` writes a line into the logs of all agents, or of the gateway.
//
// A container of the image `crashes` or `unpullable` never runs, and neither does one of a tag `v0` or `v1` that doesn't
// know its plane type.
package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	often      = 100 * time.Millisecond // between an agent's attempts, and between looks at the Deployment
	reporting  = 300 * time.Millisecond // between the controller's reports
	handover   = 200 * time.Millisecond // for which old pods run beside new ones
	fresh      = time.Second            // for which an attempt counts as a connection
	generation = "double/generation"    // the annotation that tells which generation made a pod
)

// The fields that are read; JSON's names match these whatever their case.
type (
	metadata struct {
		Namespace, Name, UID string
		Generation           int64
		DeletionTimestamp    string
		Finalizers           []string
		Labels, Annotations  map[string]string
		OwnerReferences      []struct{ Kind, Name string }
	}
	plane struct {
		Metadata metadata
		Spec     struct {
			PlaneID      string
			ClusterAgent struct {
				ClientCA struct {
					Value                   string
					SecretRef, SecretKeyRef *struct{ Namespace, Name, Key string }
				}
			}
		}
		Status struct {
			ObservedGeneration int64
			Conditions         []condition
			AgentConnection    *connection
		}
	}
	condition  struct{ Type, Status string }
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
	journal     journal
	log         *slog.Logger // writes the journal
}

func (p *pod) started() bool {
	return p.stop != nil
}

// site is where an agent runs: a Deployment in a cluster, with what is around it.
type site struct {
	*double
	build        *api
	namespace    string
	name         string // of the Deployment
	pods         string // paths in the cluster
	secrets      string
	configMaps   string
	certificates string
	requests     string
	issuers      string
	deployment   string
	running      map[string]*pod // guarded by the double's lock, as the next
	own          map[string]int  // outcomes of attempts
}

func newSite(d *double, build *api, namespace, name string) *site {
	core := "/api/v1/namespaces/" + namespace
	certManager := "/apis/cert-manager.io/v1/namespaces/" + namespace
	return &site{
		double:       d,
		build:        build,
		namespace:    namespace,
		name:         name,
		pods:         core + "/pods",
		secrets:      core + "/secrets/",
		configMaps:   core + "/configmaps/",
		deployment:   "/apis/apps/v1/namespaces/" + namespace + "/deployments/" + name,
		certificates: certManager + "/certificates",
		requests:     certManager + "/certificaterequests",
		issuers:      certManager + "/issuers",
		running:      map[string]*pod{},
	}
}

func (s *site) title() string {
	return s.namespace + "/" + s.name
}

// access is how the API for planes is reached.
type access int

const shared, open, mutual access = 0, 1, 2

var accesses = map[string]access{"shared": shared, "open": open, "mutual": mutual}

// settings are what lines on stdin change.
type settings struct {
	era                    era
	api                    access
	finalizers, stay, logs bool
}

type double struct {
	control       *api
	sites         []*site
	port, apiPort int // where the gateway listens
	kubelet       int // and the node
	leaves        [3]tls.Certificate
	internal      issuer // of the internal API's clients
	planeAPI      http.Handler
	controller    *http.Client
	log           *slog.Logger // writes the next
	journal       journal      // the gateway's log
	mode          atomic.Pointer[mode]
	settings      atomic.Pointer[settings]
	reports       sync.Mutex          // held while the controller works; guards the next
	mute          bool                // whether it doesn't
	idle          atomic.Bool         // whether cert-manager does nothing
	sync.Mutex                        // guards all below, and stdout
	sessions      map[string]*session // by pod
	logged        map[string]string   // what was written into the gateway's log last, by what it is about
	fortune       map[string]string   // by agent
	attempts      map[string]map[string]int
	refusals      []any
	upgrades      int // connections that would have become agents
}

func main() {
	if len(os.Args) < 5 || len(os.Args)%3 != 2 {
		fmt.Fprintln(os.Stderr, "usage: double CONTROL_FOLDER (BUILD_FOLDER NAMESPACE DEPLOYMENT)...")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

func run(control string, agents []string) error {
	d := &double{sessions: map[string]*session{}, logged: map[string]string{}, fortune: map[string]string{}}
	d.log = slog.New(slog.NewJSONHandler(&d.journal, nil))
	d.mode.Store(&mode{over: make(chan struct{})})
	d.settings.Store(&settings{})
	var err error
	if d.control, err = newAPI(control); err != nil {
		return err
	}
	servers := map[string]*api{control: d.control}
	for ; len(agents) > 0; agents = agents[3:] {
		if servers[agents[0]] == nil {
			if servers[agents[0]], err = newAPI(agents[0]); err != nil {
				return err
			}
		}
		d.sites = append(d.sites, newSite(d, servers[agents[0]], agents[1], agents[2]))
	}
	d.reset()
	if err := d.certify(); err != nil {
		return err
	}
	public, internal := d.handlers()
	if d.port, err = listen(d.greet, public); err != nil {
		return err
	}
	if d.apiPort, err = listen(d.greetInternal, internal); err != nil {
		return err
	}
	if err := d.serveLogs(); err != nil {
		return err
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, os.Interrupt)
	fmt.Println("ready", d.port)
	fmt.Println("api", d.apiPort)
	issued := map[string]bool{}
	for _, s := range d.sites {
		go poll(often, s.roll)
		go poll(often, s.restless)
		if at := s.build.server + s.certificates; !issued[at] {
			issued[at] = true
			go poll(reporting, s.issueAll)
		}
	}
	go poll(reporting, d.reconcileAll)
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
		if line == "count" {
			d.Lock()
			fmt.Println(d.report())
			d.Unlock()
			continue
		}
		word, value, _ := strings.Cut(line, " ")
		if err := d.order(word, value); err != nil {
			fmt.Fprintf(os.Stderr, "not understood: %q: %v\n", line, err)
			continue
		}
		d.Lock()
		fmt.Println("ok")
		d.Unlock()
	}
	ended <- os.Interrupt
}

func (d *double) order(word, value string) error {
	next := *d.settings.Load()
	on := value == "on"
	switch word {
	case "reports", "issuing", "finalizers":
		if !on && value != "off" {
			return errors.New("neither on nor off")
		}
	}
	switch word {
	case "reset":
		d.Lock()
		defer d.Unlock()
		d.reset()
		return nil
	case "gateway":
		mode, known := modes[value]
		if !known {
			return errors.New("no such mode")
		}
		mode.over = make(chan struct{})
		close(d.mode.Swap(&mode).over)
		return nil
	case "issuing":
		d.idle.Store(!on)
		return nil
	case "era":
		return d.begin(value, next)
	case "say":
		who, text, _ := strings.Cut(value, " ")
		return d.say(who, text)
	}
	// No report is on its way when the next are answered.
	d.reports.Lock()
	defer d.reports.Unlock()
	switch word {
	case "reports":
		d.mute = !on
		return nil
	case "api":
		api, known := accesses[value]
		if !known {
			return errors.New("no such access")
		}
		next.api = api
	case "finalizers":
		next.finalizers = on
	case "agents":
		if value != "stay" && value != "return" {
			return errors.New("agents stay or return")
		}
		next.stay = value == "stay"
	case "logs":
		if !on {
			return errors.New("logs can only be on")
		}
		for _, at := range append([]*api{d.control}, builds(d.sites)...) {
			if err := register(at, d.kubelet); err != nil {
				return err
			}
		}
		next.logs = true
	default:
		return errors.New("no such line")
	}
	d.settings.Store(&next)
	return nil
}

// begin replaces gateway and controller by those of an era: all connections end.
func (d *double) begin(name string, next settings) error {
	of, known := eras[name]
	if !known {
		return errors.New("no such era")
	}
	d.reports.Lock()
	defer d.reports.Unlock()
	d.Lock()
	defer d.Unlock()
	next.era, next.api, next.finalizers = of, shared, of == v1
	if of == v1 {
		next.api = mutual
	}
	d.settings.Store(&next)
	clear(d.sessions)
	clear(d.logged)
	return nil
}

func builds(sites []*site) []*api {
	var found []*api
	for _, s := range sites {
		found = append(found, s.build)
	}
	return found
}

func (d *double) reset() {
	d.attempts, d.refusals = map[string]map[string]int{}, []any{}
	for _, kind := range []string{"pod", "restless"} {
		d.attempts[kind] = map[string]int{authorized: 0, refused: 0, failed: 0}
	}
	for _, s := range d.sites {
		s.own = map[string]int{authorized: 0, refused: 0, failed: 0}
	}
}

func (d *double) report() string {
	agents := map[string]any{}
	for _, s := range d.sites {
		agents[s.title()] = s.own
	}
	text, _ := json.Marshal(map[string]any{
		"attempts": d.attempts, "agents": agents, "refusals": d.refusals, "upgrades": d.upgrades,
	})
	return string(text)
}
