// Prints how OpenChoreo's cluster gateway would judge an agent's certificate: `gateway CA.crt TLS.crt TLS.key` starts a
// TLS server that asks for a client certificate, connects to it with the pair, and verifies what arrives against the CA.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"os"
	"time"

	"choreoctl.dev/gateway/verdict"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: gateway CA.crt TLS.crt TLS.key")
		os.Exit(2)
	}
	judged, err := judge(os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	fmt.Println(judged)
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
	presented := server.ConnectionState().PeerCertificates
	if len(presented) == 0 {
		return "no client certificate presented", nil
	}
	roots, _ := verdict.Roots(ca)
	if err := verdict.Verify(roots, presented, time.Now()); err != nil {
		return err.Error(), nil
	}
	return "authorized", nil
}

func dial(address string, pair tls.Certificate) {
	// The agent's side: whom it talks to is not what is asked here.
	client, err := tls.Dial("tcp", address, &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true})
	if err == nil {
		client.Read(make([]byte, 1))
		client.Close()
	}
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
