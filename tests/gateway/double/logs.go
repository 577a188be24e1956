package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// The kubelet's part that serves logs: a node of both API servers, which ask it for the logs of its pods.

const (
	node    = "double"
	longest = 500 // lines of a log
)

// journal is a log, as lines of JSON or of text.
type journal struct {
	sync.Mutex
	lines []string
}

func (j *journal) Write(text []byte) (int, error) {
	j.Lock()
	defer j.Unlock()
	j.lines = append(j.lines, string(text))
	if len(j.lines) > longest {
		j.lines = j.lines[len(j.lines)-longest:]
	}
	return len(text), nil
}

func (j *journal) last(count int) string {
	j.Lock()
	defer j.Unlock()
	return strings.Join(j.lines[max(0, len(j.lines)-count):], "")
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
		kept := &d.journal
		if r.PathValue("container") == "agent" {
			kept = d.logOf(r.PathValue("namespace"), r.PathValue("pod"))
		}
		if kept == nil {
			http.NotFound(w, r)
			return
		}
		count, err := strconv.Atoi(r.URL.Query().Get("tailLines"))
		if err != nil {
			count = longest
		}
		io.WriteString(w, kept.last(count))
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
