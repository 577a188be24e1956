package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"time"
)

// The controller, which reports agents in the planes.

// reconcileAll goes through the planes of the era's kinds: nobody looks after those of the other era.
func (d *double) reconcileAll() error {
	d.reports.Lock()
	defer d.reports.Unlock()
	if d.mute {
		return nil
	}
	for _, planeType := range d.settings.Load().era.planeTypes() {
		for _, of := range d.settings.Load().era.kinds(planeType) {
			planes, err := list(of, d.control.read)
			if err != nil {
				return err
			}
			for _, item := range planes {
				if err := unlessGone(d.reconcile(of, planeType, item)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// list gives the planes of a kind, by a way to read them.
func list(of kind, read func(path string, into any) error) ([]plane, error) {
	var list struct{ Items []plane }
	err := unlessGone(read(of.list(), &list)) // without its CRD, there are none
	return list.Items, err
}

func (d *double) reconcile(of kind, planeType string, item plane) error {
	set := d.settings.Load()
	path, held := of.path(item.Metadata), slices.Contains(item.Metadata.Finalizers, of.finalizer())
	notify := func(event string) error {
		notification := map[string]string{
			"planeType": planeType, "planeID": item.id(), "event": event,
			"namespace": item.Metadata.Namespace, "name": item.Metadata.Name,
		}
		return d.ask("POST", "/api/v1/planes/notify", notification, nil)
	}
	if item.Metadata.DeletionTimestamp != "" {
		if !held || !set.finalizers || isTransient(notify("deleted")) {
			return nil
		}
		rest := slices.DeleteFunc(item.Metadata.Finalizers, func(name string) bool { return name == of.finalizer() })
		return d.control.call("PATCH", path, finalizers(rest), nil)
	}
	if set.finalizers && !held {
		return d.control.call("PATCH", path, finalizers(append(item.Metadata.Finalizers, of.finalizer())), nil)
	}

	status, notified := map[string]any{}, false
	created := slices.ContainsFunc(item.Status.Conditions, func(each condition) bool { return each.Type == "Created" })
	behind := item.Status.ObservedGeneration < item.Metadata.Generation
	if set.finalizers && (!created || behind && !of.cluster) {
		err := notify("updated")
		if isTransient(err) {
			return nil // it will be tried again, and until then nothing is written
		}
		notified = err == nil
		status["observedGeneration"] = item.Metadata.Generation
		if !created {
			status["conditions"] = []any{map[string]any{
				"type": "Created", "status": "True", "reason": of.name() + "Created",
				"message": of.stem + "plane is created", "observedGeneration": item.Metadata.Generation,
				"lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
			}}
		}
	}
	// From v1.0 on nobody is counted right after a notification: agents may be about to return.
	if !notified || set.era == v0 {
		if now := d.connection(of, planeType, item); now != nil {
			status["agentConnection"] = now
		}
	}
	if len(status) == 0 {
		return nil
	}
	if err := d.control.call("PATCH", path+"/status", map[string]any{"status": status}, nil); err != nil {
		return err
	}
	if status["conditions"] == nil {
		return nil
	}
	return d.announceCreated(of, item)
}

func finalizers(names []string) map[string]any {
	return map[string]any{"metadata": map[string]any{"finalizers": names}}
}

// connection is what is to be reported of a plane's agents; nil where it is reported already, or where the gateway can't
// be asked. Of a cluster-scoped plane all agents of the planeID count, of a namespaced one those that it authorizes.
func (d *double) connection(of kind, planeType string, item plane) *connection {
	path := "/api/v1/planes/" + url.PathEscape(planeType) + "/" + url.PathEscape(item.id()) + "/status"
	if !of.cluster {
		path += "?" + url.Values{"namespace": {item.Metadata.Namespace}, "name": {item.Metadata.Name}}.Encode()
	}
	var found struct {
		ConnectedAgents int
		LastSeen        time.Time
	}
	if d.ask("GET", path, nil, &found) != nil {
		return nil
	}
	before := cmp.Or(item.Status.AgentConnection, &connection{})
	after := *before
	after.ConnectedAgents = found.ConnectedAgents
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
		after.LastHeartbeatTime = found.LastSeen.UTC().Format(time.RFC3339)
	}
	if after.Connected && !before.Connected {
		after.LastConnectedTime = now
	}
	if before.Connected && !after.Connected {
		after.LastDisconnectedTime = now
	}
	if after == *before {
		return nil
	}
	return &after
}

// announceCreated leaves the one event that the controller ever sends.
func (d *double) announceCreated(of kind, item plane) error {
	namespace, now := cmp.Or(item.Metadata.Namespace, "default"), time.Now().UTC()
	body := map[string]any{
		"metadata": map[string]any{"name": fmt.Sprintf("%s.%x", item.Metadata.Name, now.UnixNano()), "namespace": namespace},
		"involvedObject": map[string]any{
			"apiVersion": "openchoreo.dev/v1alpha1", "kind": of.name(), "namespace": item.Metadata.Namespace,
			"name": item.Metadata.Name, "uid": item.Metadata.UID,
		},
		"type": "Normal", "reason": "ReconcileComplete", "message": "Successfully created " + item.Metadata.Name,
		"firstTimestamp": now.Format(time.RFC3339), "lastTimestamp": now.Format(time.RFC3339), "count": 1,
	}
	return d.control.call("POST", "/api/v1/namespaces/"+url.PathEscape(namespace)+"/events", body, nil)
}

// isTransient tells whether the controller tries again: after any failure that isn't the gateway's 4xx.
func isTransient(err error) bool {
	code := answered(err)
	return err != nil && (code < 400 || code >= 500)
}

// ask is the controller's client of the gateway. Up to v0.17 it doesn't verify the gateway, and here it doesn't notice
// the gateway's modes either; later it connects as any client.
func (d *double) ask(method, path string, body, into any) error {
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	set := d.settings.Load()
	if set.era == v0 {
		recorder := httptest.NewRecorder()
		d.planeAPI.ServeHTTP(recorder, httptest.NewRequest(method, path, bytes.NewReader(content)))
		return understand(recorder.Result(), into)
	}
	port := d.apiPort
	if set.api == shared {
		port = d.port
	}
	request, err := http.NewRequest(method, fmt.Sprintf("https://127.0.0.1:%d%s", port, path), bytes.NewReader(content))
	if err != nil {
		return err
	}
	response, err := d.controller.Do(request)
	if err != nil {
		return err
	}
	return understand(response, into)
}

func understand(response *http.Response, into any) error {
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return err
	case response.StatusCode != http.StatusOK:
		return answer{response.StatusCode, string(content)}
	case into == nil:
		return nil
	case json.Unmarshal(content, into) != nil:
		return errors.New("the gateway's answer is not understood")
	}
	return nil
}
