// Prints how OpenChoreo's cluster gateway would judge an agent's certificate: `gateway CA.crt TLS.crt TLS.key` starts a
// TLS server that asks for a client certificate, connects to it with the pair, and verifies what arrives against the CA.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"time"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: gateway CA.crt TLS.crt TLS.key")
		os.Exit(2)
	}
	verdict, err := judge(os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	fmt.Println(verdict)
}

func judge(caPath, certificatePath, keyPath string) (string, error) {
	ca, err := os.ReadFile(caPath)
	if err != nil {
		return "", err
	}
	pair, err := tls.LoadX509KeyPair(certificatePath, keyPath)
	if err != nil {
		return "", err
	}
	own, err := serverPair()
	if err != nil {
		return "", err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{own},
		ClientAuth:   tls.RequestClientCert,
		MinVersion:   tls.VersionTLS12,
	})
	if err != nil {
		return "", err
	}
	defer listener.Close()
	go dial(listener.Addr().String(), pair)
	connection, err := listener.Accept()
	if err != nil {
		return "", err
	}
	defer connection.Close()
	server := connection.(*tls.Conn)
	if err := server.Handshake(); err != nil {
		return "handshake: " + err.Error(), nil
	}
	return verify(roots(ca), server.ConnectionState().PeerCertificates), nil
}

func dial(address string, pair tls.Certificate) {
	// The agent's side: whom it talks to is not what is asked here.
	client, err := tls.Dial("tcp", address, &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true})
	if err == nil {
		client.Read(make([]byte, 1))
		client.Close()
	}
}

// roots takes every CERTIFICATE block that parses, as the gateway does.
func roots(ca []byte) *x509.CertPool {
	pool := x509.NewCertPool()
	for block, rest := pem.Decode(ca); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" || len(block.Headers) != 0 {
			continue
		}
		if certificate, err := x509.ParseCertificate(block.Bytes); err == nil {
			pool.AddCert(certificate)
		}
	}
	return pool
}

func verify(roots *x509.CertPool, presented []*x509.Certificate) string {
	if len(presented) == 0 {
		return "no client certificate presented"
	}
	intermediates := x509.NewCertPool()
	for _, certificate := range presented[1:] {
		intermediates.AddCert(certificate)
	}
	_, err := presented[0].Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return err.Error()
	}
	return "authorized"
}

func serverPair() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
