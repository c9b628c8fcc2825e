package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/contract"
)

// The archive must not depend on the order of its entries, on who wrote the
// files, nor on when.
func TestWriteTar(t *testing.T) {
	write := func(name string, mode os.FileMode) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte("program"), mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	entries := func(source string) []entry {
		return withParents([]entry{
			{path: "bin/a", mode: 0o755, source: source},
			{path: "bin/b", link: "a"},
			{path: "etc/empty", mode: 0o644},
			{path: "tmp/", mode: 0o1777},
		})
	}
	one := entries(write("one", 0o700))
	two := entries(write("two", 0o644))
	slices.Reverse(two)

	var a, b bytes.Buffer
	if err := writeTar(&a, one); err != nil {
		t.Fatal(err)
	}
	if err := writeTar(&b, two); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("the same entries gave different archives")
	}
	want := []string{
		"bin/ 755 0", "bin/a 755 7", "bin/b 777 0 -> a", "etc/ 755 0", "etc/empty 644 0", "tmp/ 1777 0",
	}
	if diff := cmp.Diff(want, list(t, &a)); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
}

// list renders every header and fails on one that names a person or a time.
func list(t *testing.T, r io.Reader) []string {
	t.Helper()
	var lines []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || h.ModTime.Unix() != 0 || len(h.PAXRecords) > 0 {
			t.Errorf("%s: header depends on the machine: %+v", h.Name, h)
		}
		line := h.Name + " " + octal(h.Mode) + " " + decimal(h.Size)
		if h.Linkname != "" {
			line += " -> " + h.Linkname
		}
		lines = append(lines, line)
	}
}

// The image holds what the two sides agreed on and nothing that could run a script.
func TestRootfs(t *testing.T) {
	paths := make(map[string]entry)
	for _, e := range rootfs("bin", []byte("roots")) {
		if _, ok := paths["/"+e.path]; ok {
			t.Errorf("%s is in the image twice", e.path)
		}
		paths["/"+e.path] = e
	}
	for _, want := range []string{
		contract.BinDir + "/caged", contract.BinDir + "/runc", contract.BinDir + "/buildkitd",
		contract.BinDir + "/" + contract.CommandRuntime, contract.BinDir + "/git",
		contract.GitDir + "/" + contract.CommandGitHTTPS, contract.GitDir + "/" + contract.CommandGitRun, contract.ImageCABundle, contract.StateDir + "/",
		"/run/", "/tmp/", "/proc/", "/sys/", "/dev/", "/var/lib/cni/",
	} {
		if _, ok := paths[want]; !ok {
			t.Errorf("%s is not in the image", want)
		}
	}
	for path, e := range paths {
		if e.source != "" && !slices.Contains([]string{"caged", "git", "buildkitd", "runc", "ptp", "host-local", "loopback"}, filepath.Base(path)) {
			t.Errorf("%s is a program nobody asked for", path)
		}
		if e.mode&0o6000 != 0 || (e.mode&0o002 != 0 && path != "/tmp/") {
			t.Errorf("%s has mode %o", path, e.mode)
		}
	}
}

func TestRootCertificates(t *testing.T) {
	data, err := rootCertificates()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		n++
	}
	if n < 50 || n != strings.Count(string(data), "\n# ")+1 {
		t.Errorf("%d certificates in the bundle", n)
	}
}
