package runner

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func certificate(t *testing.T, serial int64) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestGatherCAs(t *testing.T) {
	a, b := certificate(t, 1), certificate(t, 2)
	t.Setenv("SSL_CERT_FILE", write(t, "# Company CA\r\n"+a+"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	got, err := gatherCAs([]string{write(t, b+"\ncomment\n"+a)})
	if err != nil || got != a+b {
		t.Errorf("got %q, %v, want each certificate once", got, err)
	}
}

func TestGatherCAsRefuses(t *testing.T) {
	good := certificate(t, 1)
	missing := filepath.Join(t.TempDir(), "none.pem")
	key := "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
	tests := []struct {
		name, env, extra, text, hint string
	}{
		{"missing", "", missing, "no such file", "extra_ca"},
		{"missing in the environment", missing, "", "SSL_CERT_FILE", "SSL_CERT_FILE"},
		{"empty", "", write(t, ""), "no certificate in it", "PEM"},
		{"DER", write(t, "\x30\x82"), "", "no certificate in it", "openssl"},
		{"damaged", "", write(t, good+strings.Replace(good, "M", "\x00", 1)), "a damaged PEM block", "PEM"},
		{"no certificate in the block", "", write(t, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "certificate 1", "PEM"},
		{"a private key", "", write(t, good+key), `a block of type "PRIVATE KEY"`, "PEM"},
		{"directory", "", t.TempDir(), "not a certificate file", "PEM"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("SSL_CERT_FILE", write(t, good))
			if tt.env != "" {
				t.Setenv("SSL_CERT_FILE", tt.env)
			}
			var extra []string
			if tt.extra != "" {
				extra = []string{tt.extra}
			}
			_, err := gatherCAs(extra)
			var e *CAError
			if !errors.As(err, &e) || !strings.Contains(e.Error(), tt.text) || !strings.Contains(e.Hint(), tt.hint) {
				t.Errorf("error %v, want %q", err, tt.text)
			}
		})
	}
}

// A private key never leaves this machine, whatever file it is in.
func TestGatherCAsLeavesKeysBehind(t *testing.T) {
	good := certificate(t, 1)
	t.Setenv("SSL_CERT_FILE", write(t, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"+good))
	got, err := gatherCAs(nil)
	if err != nil || bytes.Contains([]byte(got), []byte("PRIVATE")) || got != good {
		t.Errorf("got %q, %v", got, err)
	}
}
