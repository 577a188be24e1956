package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// The kubelet's part that serves logs: a node of both API servers, which ask it for the logs of its pods.

const (
	node    = "double"
	longest = 500 // lines of a log
)

// journal is a log, as lines of JSON or of text.
type journal struct {
	sync.Mutex
	lines []line
	gone  int // lines that were dropped
}

type line struct {
	at   time.Time
	text string
}

func (j *journal) Write(text []byte) (int, error) {
	j.Lock()
	defer j.Unlock()
	j.lines = append(j.lines, line{time.Now().UTC(), string(text)})
	if over := len(j.lines) - longest; over > 0 {
		j.lines, j.gone = j.lines[over:], j.gone+over
	}
	return len(text), nil
}

// since gives the lines from a moment on, the last ones of them, and the number of the line that is next.
func (j *journal) since(begin time.Time, count int) ([]line, int) {
	j.Lock()
	defer j.Unlock()
	first := slices.IndexFunc(j.lines, func(l line) bool { return !l.at.Before(begin) })
	if first < 0 {
		first = len(j.lines)
	}
	first = max(first, len(j.lines)-count)
	return slices.Clone(j.lines[first:]), j.gone + len(j.lines)
}

// from gives the lines from a number on.
func (j *journal) from(number int) ([]line, int) {
	j.Lock()
	defer j.Unlock()
	return slices.Clone(j.lines[min(max(0, number-j.gone), len(j.lines)):]), j.gone + len(j.lines)
}

// serve answers as a kubelet does: what sinceSeconds, sinceTime, tailLines, timestamps and follow ask for, followed until
// the container ends.
func (j *journal) serve(w http.ResponseWriter, r *http.Request, runs func() bool) {
	query := r.URL.Query()
	if query.Get("previous") == "true" {
		http.Error(w, "previous terminated container not found", http.StatusBadRequest)
		return
	}
	var begin time.Time
	if seconds, err := strconv.Atoi(query.Get("sinceSeconds")); err == nil {
		begin = time.Now().Add(-time.Duration(seconds) * time.Second)
	} else if moment, err := time.Parse(time.RFC3339, query.Get("sinceTime")); err == nil {
		begin = moment
	}
	count, err := strconv.Atoi(query.Get("tailLines"))
	if err != nil {
		count = longest
	}
	lines, next := j.since(begin, count)
	for {
		for _, l := range lines {
			if query.Get("timestamps") == "true" {
				io.WriteString(w, l.at.Format("2006-01-02T15:04:05.000000000Z ")+l.text)
			} else {
				io.WriteString(w, l.text)
			}
		}
		w.(http.Flusher).Flush()
		if query.Get("follow") != "true" {
			return
		}
		ends := !runs()
		select {
		case <-r.Context().Done():
			return
		case <-time.After(often / 2):
		}
		lines, next = j.from(next)
		if ends && len(lines) == 0 {
			return
		}
	}
}

// serveLogs listens as a kubelet does. An API server without a CA for kubelets takes any certificate.
func (d *double) serveLogs() error {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: d.leaves[valid : valid+1]})
	if err != nil {
		return err
	}
	d.kubelet = listener.Addr().(*net.TCPAddr).Port
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		find := func() *journal {
			if r.PathValue("container") == "agent" {
				return d.logOf(r.PathValue("namespace"), r.PathValue("pod"))
			}
			return &d.journal
		}
		if kept := find(); kept != nil {
			kept.serve(w, r, func() bool { return find() == kept })
		} else {
			http.NotFound(w, r)
		}
	})
	server := http.Server{Handler: mux, ErrorLog: log.New(io.Discard, "", 0)}
	go server.Serve(listener)
	return nil
}

// logOf finds an agent's log.
func (d *double) logOf(namespace, name string) *journal {
	d.Lock()
	defer d.Unlock()
	for _, s := range d.sites {
		if p := s.running[name]; p != nil && s.namespace == namespace {
			return &p.journal
		}
	}
	return nil
}

// say writes a line of text into the logs of all agents, or of the gateway.
func (d *double) say(who, text string) error {
	d.Lock()
	defer d.Unlock()
	switch who {
	case "gateway":
		fmt.Fprintln(&d.journal, text)
	case "agents":
		for _, s := range d.sites {
			for _, p := range s.running {
				fmt.Fprintln(&p.journal, text)
			}
		}
	default:
		return errors.New("neither agents nor gateway")
	}
	return nil
}

// register makes the node known to an API server.
func register(at *api, port int) error {
	body := map[string]any{"metadata": map[string]any{"name": node}}
	if err := at.call("POST", "/api/v1/nodes", body, nil); err != nil && answered(err) != http.StatusConflict {
		return fmt.Errorf("could not create the node: %w", err)
	}
	status := map[string]any{
		"addresses":       []any{map[string]any{"type": "InternalIP", "address": "127.0.0.1"}},
		"daemonEndpoints": map[string]any{"kubeletEndpoint": map[string]any{"Port": port}},
	}
	return at.call("PATCH", "/api/v1/nodes/"+node+"/status", map[string]any{"status": status}, nil)
}
