package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// rootCertificates returns Mozilla's roots as PEM. They come from a module, so
// nothing that the building machine trusts gets in. A root that Mozilla trusts
// only under a constraint is left out, since a PEM file cannot carry the constraint.
func rootCertificates() ([]byte, error) {
	var buf bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		cert, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return nil, fmt.Errorf("parsing root certificate: %w", err)
		}
		fmt.Fprintf(&buf, "# %s\n", cert.Subject)
		if err := pem.Encode(&buf, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return nil, fmt.Errorf("encoding root certificate: %w", err)
		}
	}
	if buf.Len() == 0 {
		return nil, errors.New("reading root certificates: none found")
	}
	return buf.Bytes(), nil
}
