// Package verdict is what the cluster gateway does with what an agent presents, and an agent with what the gateway
// presents, by Go's crypto/x509.
package verdict

import (
	"crypto/x509"
	"encoding/pem"
	"time"
)

// Roots takes every CERTIFICATE block that parses, as the gateway does, and tells whether there was one.
func Roots(ca []byte) (*x509.CertPool, bool) {
	pool, any := x509.NewCertPool(), false
	for block, rest := pem.Decode(ca); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" || len(block.Headers) != 0 {
			continue
		}
		if certificate, err := x509.ParseCertificate(block.Bytes); err == nil {
			pool.AddCert(certificate)
			any = true
		}
	}
	return pool, any
}

// Verify judges an agent's certificate, which comes first, with its intermediates behind it.
func Verify(roots *x509.CertPool, presented []*x509.Certificate, at time.Time) error {
	intermediates := x509.NewCertPool()
	for _, certificate := range presented[1:] {
		intermediates.AddCert(certificate)
	}
	_, err := presented[0].Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   at,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}

// VerifyServer judges a gateway's certificate, which comes first, with its intermediates behind it, as a TLS client does.
func VerifyServer(roots *x509.CertPool, presented []*x509.Certificate, host string, at time.Time) error {
	intermediates := x509.NewCertPool()
	for _, certificate := range presented[1:] {
		intermediates.AddCert(certificate)
	}
	_, err := presented[0].Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   at,
		DNSName:       host,
	})
	return err
}
