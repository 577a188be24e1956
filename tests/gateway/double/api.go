package main

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"choreoctl.dev/gateway/verdict"
)

// The API servers.

type api struct {
	server, token string
	client        http.Client
	sync.Mutex    // guards the next
	lists         map[string]*followed
}

// followed is a list whose changes are followed, with what was read of it since the last one.
type followed struct {
	changes int
	known   map[string]known // by path
}

type known struct {
	changes int // when it was read
	content []byte
	err     error
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
	return &api{server: "https://127.0.0.1:" + contents[0], token: token, lists: map[string]*followed{}, client: http.Client{
		Timeout: 10 * time.Second,
		// One connection carries all requests.
		Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots}},
	}}, nil
}

func (a *api) call(method, path string, body, into any) error {
	content, err := a.ask(method, path, body)
	if err != nil || into == nil {
		return err
	}
	return json.Unmarshal(content, into)
}

func (a *api) get(path string, into any) error {
	return a.call("GET", path, nil, into)
}

// ask sends a request, and gives what is answered.
func (a *api) ask(method, path string, body any) ([]byte, error) {
	response, err := a.send(method, path, body)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if method != "GET" {
		// Its change is not reported before the next reading.
		defer a.changed(path)
	}
	return io.ReadAll(response.Body)
}

func (a *api) send(method, path string, body any) (*http.Response, error) {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	request, err := http.NewRequest(method, a.server+path, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+a.token)
	request.Header.Set("Content-Type", "application/json")
	if method == "PATCH" {
		request.Header.Set("Content-Type", "application/merge-patch+json")
	}
	response, err := a.client.Do(request)
	if err != nil || response.StatusCode < 300 {
		return response, err
	}
	defer response.Body.Close()
	content, err = io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	var status struct{ Message string }
	json.Unmarshal(content, &status)
	return nil, answer{response.StatusCode, cmp.Or(status.Message, response.Status)}
}

// read is a GET of a list or of something in it. What was read is as good as new until a change in the list is reported:
// most of the API servers' work would be to answer looks at what is as it was.
func (a *api) read(path string, into any) error {
	a.Lock()
	from, of := a.of(path)
	if of == nil {
		from, of = collection(path), &followed{known: map[string]known{}}
		a.lists[from] = of
		go a.follow(from)
	}
	now := of.changes
	found, is := of.known[path]
	a.Unlock()
	if !is || found.changes != now {
		found = known{changes: now}
		found.content, found.err = a.ask("GET", path, nil)
		if found.err == nil || answered(found.err) == http.StatusNotFound {
			a.Lock()
			of.known[path] = found
			a.Unlock()
		}
	}
	if found.err != nil {
		return found.err
	}
	return json.Unmarshal(found.content, into)
}

// collection is the path of a list: a path itself, or what is before its last name.
func collection(path string) string {
	if at := strings.LastIndex(path, "/"); slices.Contains(named, path[strings.LastIndex(path[:at], "/")+1:at]) {
		return path[:at]
	}
	return path
}

// named are the resources that are read by name.
var named = []string{"deployments", "secrets"}

// of finds the list that a path is of, if it is followed.
func (a *api) of(path string) (string, *followed) {
	for from, each := range a.lists {
		if rest, is := strings.CutPrefix(path, from); is && (rest == "" || rest[0] == '/' || rest[0] == '?') {
			return from, each
		}
	}
	return "", nil
}

func (a *api) changed(path string) {
	a.Lock()
	defer a.Unlock()
	_, changed := a.of(path)
	for _, each := range a.lists {
		// A namespaced plane is of no list by its path.
		if each == changed || changed == nil {
			each.changes++
		}
	}
}

// follow notes the changes in a list, and all that may be one: where it is not reported, each look is a new one.
func (a *api) follow(path string) {
	for {
		response, err := a.send("GET", path+"?watch=true", nil)
		if answered(err) == http.StatusNotFound {
			time.Sleep(fresh) // without its CRD
			continue
		}
		for buffer := make([]byte, 4096); err == nil; {
			a.changed(path)
			_, err = response.Body.Read(buffer)
		}
		if response != nil {
			response.Body.Close()
		}
		a.changed(path)
		time.Sleep(often)
	}
}

// secret takes a way to read, and the path of the namespace's Secrets.
func secret(read func(path string, into any) error, path, name string) (map[string][]byte, error) {
	var secret struct{ Data map[string][]byte }
	err := read(path+url.PathEscape(name), &secret)
	return secret.Data, err
}
