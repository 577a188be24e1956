package main

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// cert-manager, as far as the agent's chart uses it: a Certificate by a self-signed Issuer, or by one of a CA's Secret.

type (
	certificate struct {
		Metadata metadata
		Spec     struct {
			SecretName, CommonName string
			Duration, RenewBefore  string
			IssuerRef              struct{ Name string }
			Subject                struct{ Organizations []string }
		}
		Status struct {
			Revision   int
			Conditions []struct{ Type, Status string }
		}
	}
	authority struct {
		Spec struct {
			SelfSigned *struct{}
			CA         *struct{ SecretName string }
		}
	}
)

const (
	byIssuer      = "cert-manager.io/issuer-name"
	byCertificate = "cert-manager.io/certificate-name"
	revision      = "cert-manager.io/certificate-revision"
)

// issueAll brings every Certificate of the namespace on. Without cert-manager's CRDs there is nothing to do.
func (s *site) issueAll() error {
	if s.idle.Load() {
		return nil
	}
	var list struct{ Items []certificate }
	err := s.build.read(s.certificates, &list)
	if answered(err) == http.StatusNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	for _, wanted := range list.Items {
		if err := s.issue(wanted); err != nil {
			return err
		}
	}
	return nil
}

func (s *site) issue(wanted certificate) error {
	var secret struct {
		Metadata metadata
		Data     map[string][]byte
	}
	path := s.secrets + url.PathEscape(wanted.Spec.SecretName)
	err := s.build.read(path, &secret)
	missing := answered(err) == http.StatusNotFound
	if err != nil && !missing {
		return err
	}
	before, _ := time.ParseDuration(cmp.Or(wanted.Spec.RenewBefore, "360h"))
	ordered := slices.ContainsFunc(wanted.Status.Conditions, func(condition struct{ Type, Status string }) bool {
		return condition.Type == "Issuing" && condition.Status == "True"
	})
	if held := leaf(secret.Data["tls.crt"]); held != nil && !ordered && held.Subject.CommonName == wanted.Spec.CommonName &&
		secret.Metadata.Annotations[byIssuer] == wanted.Spec.IssuerRef.Name && time.Now().Before(held.NotAfter.Add(-before)) {
		if wanted.Status.Conditions != nil {
			return nil
		}
		// One that was deleted and made anew finds its Secret.
		more := map[string]any{"renewalTime": held.NotAfter.Add(-before).Format(time.RFC3339)}
		return s.build.call("PATCH", s.certificates+"/"+wanted.Metadata.Name+"/status", status(isReady(), more), nil)
	}
	pair, made, err := s.sign(wanted)
	if err != nil {
		ready := map[string]any{"type": "Ready", "status": "False", "reason": "DoesNotExist", "message": err.Error()}
		return s.build.call("PATCH", s.certificates+"/"+wanted.Metadata.Name+"/status", status(ready, nil), nil)
	}
	wanted.Status.Revision++
	if err := s.keepRequest(wanted, pair["tls.crt"]); err != nil {
		return err
	}
	body := map[string]any{
		"metadata": map[string]any{
			"name": wanted.Spec.SecretName,
			"annotations": map[string]string{
				byCertificate: wanted.Metadata.Name, byIssuer: wanted.Spec.IssuerRef.Name,
			},
		},
		"type": "kubernetes.io/tls",
		"data": pair,
	}
	if missing {
		err = s.build.call("POST", s.secrets[:len(s.secrets)-1], body, nil)
	} else {
		err = s.build.call("PATCH", path, body, nil)
	}
	if err != nil {
		return err
	}
	more := map[string]any{
		"revision": wanted.Status.Revision, "renewalTime": made.NotAfter.Add(-before).Format(time.RFC3339),
	}
	return s.build.call("PATCH", s.certificates+"/"+wanted.Metadata.Name+"/status", status(isReady(), more), nil)
}

// sign makes a key and its certificate.
func (s *site) sign(wanted certificate) (map[string][]byte, *x509.Certificate, error) {
	var by authority
	if err := s.build.get(s.issuers+"/"+wanted.Spec.IssuerRef.Name, &by); err != nil {
		return nil, nil, fmt.Errorf("issuer %s: %w", wanted.Spec.IssuerRef.Name, err)
	}
	lifetime, err := time.ParseDuration(cmp.Or(wanted.Spec.Duration, "2160h"))
	if err != nil {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: wanted.Spec.CommonName, Organization: wanted.Spec.Subject.Organizations},
		NotBefore:    time.Now(),
		NotAfter:     time.Now().Add(lifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, key
	if by.Spec.CA != nil {
		ca, err := secret(s.build.get, s.secrets, by.Spec.CA.SecretName)
		if err != nil {
			return nil, nil, err
		}
		if parent, signer = leaf(ca["tls.crt"]), private(ca["tls.key"]); parent == nil || signer == nil {
			return nil, nil, errors.New("the CA's Secret holds no usable pair")
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, nil, err
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	octets, err := x509.MarshalPKCS8PrivateKey(key)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	ca := text
	if by.Spec.CA != nil {
		ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: parent.Raw})
	}
	pair := map[string][]byte{
		"tls.crt": text, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: octets}), "ca.crt": ca,
	}
	return pair, made, err
}

// keepRequest leaves the CertificateRequest of an issue.
func (s *site) keepRequest(wanted certificate, text []byte) error {
	name := fmt.Sprintf("%s-%d", wanted.Metadata.Name, wanted.Status.Revision)
	body := map[string]any{
		"apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest",
		"metadata": map[string]any{
			"name": name,
			"annotations": map[string]string{
				byCertificate: wanted.Metadata.Name, revision: fmt.Sprint(wanted.Status.Revision),
			},
			"ownerReferences": []any{map[string]any{
				"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "controller": true,
				"name": wanted.Metadata.Name, "uid": wanted.Metadata.UID,
			}},
		},
	}
	if err := s.build.call("POST", s.requests, body, nil); err != nil && answered(err) != http.StatusConflict {
		return err
	}
	return s.build.call("PATCH", s.requests+"/"+name+"/status", status(isReady(), map[string]any{"certificate": text}), nil)
}

func isReady() map[string]any {
	now := time.Now().UTC().Format(time.RFC3339)
	return map[string]any{"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": now}
}

func status(condition, more map[string]any) map[string]any {
	fields := map[string]any{"conditions": []any{condition}}
	for name, value := range more {
		fields[name] = value
	}
	return map[string]any{"status": fields}
}

// leaf is the first certificate of a PEM; nil where there is none.
func leaf(text []byte) *x509.Certificate {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return certificate
}

func private(text []byte) *ecdsa.PrivateKey {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil
	}
	ec, _ := key.(*ecdsa.PrivateKey)
	return ec
}
