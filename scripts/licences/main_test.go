package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLicence(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"LICENSE.md": "mine\n", "NOTICE": "look\n", "licence.go": "package licence\n", "README": "no\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := licence(dir)
	if want := "mine\n\nlook\n\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if got, err := licence(t.TempDir()); err == nil {
		t.Errorf("a module without a licence passes: %q", got)
	}
}

func TestWriteMergesEqualTexts(t *testing.T) {
	var out bytes.Buffer
	if err := write(&out, map[string][]byte{"b v1": []byte("MIT\n"), "a v2": []byte("MIT"), "c v1": []byte("BSD")}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "a v2\nb v1\n\nMIT\n") || strings.Count(out.String(), "MIT") != 1 {
		t.Errorf("got %s", out.String())
	}
}

// TestEverythingHasALicence runs over what is really linked.
func TestEverythingHasALicence(t *testing.T) {
	t.Chdir("../..")
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"github.com/moby/buildkit v", "github.com/opencontainers/runc v", "github.com/containernetworking/plugins v", "github.com/docker/buildx v", "libseccomp", "GNU GENERAL PUBLIC LICENSE", "zlib"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %s", want)
		}
	}
}
