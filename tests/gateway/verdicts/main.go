// Prints how the cluster gateway of OpenChoreo would judge agents' certificates, by Go's crypto/x509: for each line of
// standard input, {"presented": [DER in base64], "ca": text of the plane's CA, "at": RFC 3339}, a line with `authorized`
// or the name of the rule that isn't met and Go's own words. With a "host" it is an agent that judges the certificate of
// a gateway at that host.
package main

import (
	"bufio"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"choreoctl.dev/gateway/verdict"
)

type question struct {
	Presented [][]byte
	CA        string
	At        time.Time
	Host      string
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		reason, err := judge(asked)
		words := ""
		if err != nil {
			words = strings.ReplaceAll(err.Error(), "\n", " ")
		}
		fmt.Printf("%s\t%s\n", reason, words)
	}
}

func judge(asked question) (string, error) {
	var presented []*x509.Certificate
	for _, der := range asked.Presented {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return "unparsable", err
		}
		// crypto/tls ends the handshake for a larger one.
		if key, ok := certificate.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > 8192 {
			return "key-too-large", nil
		}
		presented = append(presented, certificate)
	}
	if len(presented) == 0 {
		return "unparsable", nil
	}
	leaf := presented[0]
	// crypto/tls takes no other kinds of keys; a client looks at that last.
	unsupported := leaf.PublicKeyAlgorithm == x509.UnknownPublicKeyAlgorithm || leaf.PublicKeyAlgorithm == x509.DSA
	if asked.Host != "" {
		return judgeServer(asked, presented, unsupported)
	}
	if unsupported {
		return "unsupported-key", nil
	}
	roots, any := verdict.Roots([]byte(asked.CA))
	if !any {
		return "no-ca", nil
	}
	err := verdict.Verify(roots, presented, asked.At)
	if err == nil {
		return "authorized", nil
	}
	return rule(err), err
}

func judgeServer(asked question, presented []*x509.Certificate, unsupported bool) (string, error) {
	roots, _ := verdict.Roots([]byte(asked.CA))
	if err := verdict.VerifyServer(roots, presented, asked.Host, asked.At); err != nil {
		return rule(err), err
	}
	if unsupported {
		return "unsupported-key", nil
	}
	return "authorized", nil
}

func rule(err error) string {
	var invalid x509.CertificateInvalidError
	var critical x509.UnhandledCriticalExtension
	var host x509.HostnameError
	words := err.Error()
	switch {
	case errors.As(err, &host):
		return "wrong-name"
	case errors.As(err, &critical):
		return "critical-extension"
	case errors.As(err, &invalid):
		switch invalid.Reason {
		case x509.Expired:
			return validity(words)
		case x509.NotAuthorizedToSign:
			return "not-a-ca"
		case x509.TooManyIntermediates:
			return "path-length"
		case x509.IncompatibleUsage:
			return "usage"
		case x509.CANotAuthorizedForThisName:
			return "name-constraints"
		case x509.NoValidChains:
			return "policies"
		}
	case strings.Contains(words, "signature check attempts limit"):
		return "too-many-checks"
	case strings.Contains(words, "insecure algorithm"):
		return "insecure-signature"
	case strings.Contains(words, "parent certificate cannot sign"), strings.Contains(words, "not authorized to sign"):
		return "not-a-ca"
	case strings.Contains(words, "unhandled critical extension"):
		return "critical-extension"
	case strings.Contains(words, "expired or is not yet valid"):
		return validity(words)
	case strings.Contains(words, "too many intermediates"):
		return "path-length"
	}
	return "unknown-authority"
}

func validity(words string) string {
	if strings.Contains(words, "is before") {
		return "not-yet-valid"
	}
	return "expired"
}
