package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"sync"
	"time"
)

// issuer makes a certificate for each name that is asked for.
type issuer struct {
	authority tls.Certificate

	mu   sync.Mutex
	made map[string]*tls.Certificate
}

func (i *issuer) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if c := i.made[hello.ServerName]; c != nil {
		return c, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{hello.ServerName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.authority.Leaf, key.Public(), i.authority.PrivateKey)
	if err != nil {
		return nil, err
	}
	if i.made == nil {
		i.made = make(map[string]*tls.Certificate)
	}
	i.made[hello.ServerName] = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return i.made[hello.ServerName], nil
}
