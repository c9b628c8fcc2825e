package builder

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	dockerclient "github.com/moby/moby/client"
)

// mirrorDir is where bench/mirror looks for its files in its container.
const mirrorDir = "/mirror.files"

// Mirror stands for every host that a build fetches from.
type Mirror struct {
	Addr   netip.Addr // where it answers: names, HTTP and HTTPS
	Bundle string     // file of the authorities that a build has to trust

	id string
}

// Stop removes its container.
func (m *Mirror) Stop(ctx context.Context) error {
	_, err := run(ctx, "rm", "-fv", m.id)
	return err
}

// Mirror starts one.
func (e *Engine) Mirror(ctx context.Context) (_ *Mirror, err error) {
	files := filepath.Join(e.Dir, "mirror.files")
	if err := os.MkdirAll(files, 0o755); err != nil {
		return nil, err
	}
	program := filepath.Join(e.Dir, "mirror")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./bench/mirror")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the mirror: %w: %s", err, out)
	}
	m := &Mirror{Bundle: filepath.Join(files, "trusted.pem")}
	if err := m.authorize(files); err != nil {
		return nil, err
	}
	if m.id, err = run(ctx, "create", "--name", Prefix+"-mirror", "--entrypoint", "/mirror", e.id); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Stop(context.WithoutCancel(ctx)))
		}
	}()
	for _, c := range [][]string{{"cp", program, m.id + ":/mirror"}, {"cp", files, m.id + ":" + mirrorDir}, {"start", m.id}} {
		if _, err := run(ctx, c...); err != nil {
			return nil, err
		}
	}
	found, err := e.Client.ContainerInspect(ctx, m.id, dockerclient.ContainerInspectOptions{})
	if err != nil {
		return nil, fmt.Errorf("finding the mirror: %w", err)
	}
	for _, n := range found.Container.NetworkSettings.Networks {
		m.Addr = n.IPAddress
	}
	return m, listening(ctx, "tcp", netip.AddrPortFrom(m.Addr, 80).String())
}

// authorize makes an authority for the mirror, and the bundle of a build: this
// machine's own authorities and that one.
func (m *Mirror) authorize(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "buildcage benchmark"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	source := os.Getenv("SSL_CERT_FILE")
	if source == "" {
		source = "/etc/ssl/certs/ca-certificates.crt"
	}
	bundle, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	own := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "authority.pem"), own, 0o644),
		os.WriteFile(filepath.Join(dir, "authority.key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), 0o600),
		os.WriteFile(filepath.Join(dir, "bundle.pem"), bundle, 0o644),
		os.WriteFile(m.Bundle, bytes.Join([][]byte{bundle, own}, []byte("\n")), 0o644),
	)
}
