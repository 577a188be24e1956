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
	"strings"
	"time"

	"choreoctl.dev/gateway/verdict"
)

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
