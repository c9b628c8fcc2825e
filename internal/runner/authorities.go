package runner

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
)

// maxCAFile is far above any bundle; a wrong path shall not fill the memory.
const maxCAFile = 8 << 20

// CAError is a certificate file that can't be used.
type CAError struct {
	File string
	From string // what named the file: "SSL_CERT_FILE", "extra_ca"
	Err  error
}

func (e *CAError) Error() string {
	return fmt.Sprintf("reading certificates of %s from %q: %v", e.From, e.File, e.Err)
}
func (e *CAError) Unwrap() error { return e.Err }

// Hint is what the person can do about it.
func (e *CAError) Hint() string {
	if errors.Is(e.Err, fs.ErrNotExist) {
		return fmt.Sprintf("correct the path in %s", e.From)
	}
	return "the file must hold PEM certificates (BEGIN CERTIFICATE); a DER file converts with openssl x509 -inform der"
}

// gatherCAs returns, as PEM, the certificates that this machine trusts and those
// of extra. SSL_CERT_FILE replaces the system's bundle, as it does everywhere.
// A system bundle is taken as far as it can be read; a file that somebody
// named must be right.
func gatherCAs(extra []string) (string, error) {
	set := &caSet{seen: map[[sha256.Size]byte]bool{}}
	if file := os.Getenv("SSL_CERT_FILE"); file != "" {
		if err := set.add(file, "SSL_CERT_FILE", false); err != nil {
			return "", err
		}
	} else if file := systemBundle(); file != "" {
		_ = set.add(file, "the system", false)
	}
	for _, file := range extra {
		if err := set.add(file, "extra_ca", true); err != nil {
			return "", err
		}
	}
	return set.pem.String(), nil
}

// systemBundle is where the distributions keep it. Other systems have key
// chains instead, which their own programs must export.
func systemBundle() string {
	if runtime.GOOS != "linux" {
		return ""
	}
	for _, file := range []string{
		"/etc/ssl/certs/ca-certificates.crt", // Debian, Alpine, Arch
		"/etc/pki/tls/certs/ca-bundle.crt",   // Fedora, RHEL
		"/etc/ssl/ca-bundle.pem",             // openSUSE
		"/etc/ssl/cert.pem",
	} {
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	return ""
}

// caSet collects certificates, each once.
type caSet struct {
	seen map[[sha256.Size]byte]bool
	pem  strings.Builder
}

// add takes the certificates of a file. strict: one that does not parse is an
// error, else it is left out.
func (s *caSet) add(file, from string, strict bool) error {
	data, err := readLimited(file)
	if err != nil {
		return &CAError{File: file, From: from, Err: err}
	}
	found, blocks := 0, bytes.Count(data, []byte("-----BEGIN "))
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		blocks--
		if block.Type != "CERTIFICATE" {
			if strict {
				return &CAError{File: file, From: from, Err: fmt.Errorf("a block of type %q", block.Type)}
			}
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			if strict {
				return &CAError{File: file, From: from, Err: fmt.Errorf("certificate %d: %w", found+1, err)}
			}
			continue
		}
		found++
		s.put(block.Bytes)
	}
	switch {
	case strict && blocks > 0: // the decoder passes over what is damaged
		return &CAError{File: file, From: from, Err: errors.New("a damaged PEM block in it")}
	case found == 0:
		return &CAError{File: file, From: from, Err: errors.New("no certificate in it")}
	}
	return nil
}

func (s *caSet) put(der []byte) {
	sum := sha256.Sum256(der)
	if !s.seen[sum] {
		s.seen[sum] = true
		s.pem.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
}

func readLimited(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxCAFile {
		return nil, errors.New("not a certificate file")
	}
	return os.ReadFile(file)
}
