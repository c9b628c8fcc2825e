// Package pki is the lab's certificate authority. Its keys come from fixed
// seeds and are no secret: they make the images reproducible, and only images
// of the lab trust them.
package pki

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"
)

// Authority signs certificates for any name. The zero value is not usable.
type Authority struct {
	key  ed25519.PrivateKey
	cert *x509.Certificate
	leaf *ecdsa.PrivateKey

	mu     sync.Mutex
	issued map[string]*tls.Certificate
}

func validity() (from, to time.Time) {
	return time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2070, 1, 1, 0, 0, 0, 0, time.UTC)
}

// New returns the authority; it is the same everywhere.
func New() (*Authority, error) {
	seed := sha256.Sum256([]byte("buildcage lab: authority"))
	scalar := sha256.Sum256([]byte("buildcage lab: leaf"))
	leaf, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:])
	if err != nil {
		return nil, fmt.Errorf("making the lab's leaf key: %w", err)
	}
	a := &Authority{key: ed25519.NewKeyFromSeed(seed[:]), leaf: leaf, issued: make(map[string]*tls.Certificate)}
	from, to := validity()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "buildcage lab, worthless elsewhere"},
		NotBefore: from, NotAfter: to, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(nil, template, template, a.key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("making the lab's authority: %w", err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("making the lab's authority: %w", err)
	}
	return a, nil
}

// PEM is the authority's certificate.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// Pin is the SHA-256 of the public key of every certificate that a issues, in hex.
func (a *Authority) Pin() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(a.leaf.Public())
	if err != nil {
		return "", fmt.Errorf("encoding the lab's leaf key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// maxIssued bounds the memory of a node whose clients make up names.
const maxIssued = 4096

// Certificate issues a certificate for a server name.
func (a *Authority) Certificate(name string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.issued[name]; c != nil {
		return c, nil
	}
	from, to := validity()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "lab leaf"},
		NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else if name != "" {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(nil, template, a.cert, a.leaf.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("issuing a certificate for %q: %w", name, err)
	}
	c := &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: a.leaf}
	if len(a.issued) < maxIssued {
		a.issued[name] = c
	}
	return c, nil
}
