package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/buildcage/buildcage/internal/contract"
)

// entry is one file of a tar archive. A path that ends in a slash is a
// directory, link makes it a symbolic link, source names a file to copy.
type entry struct {
	path   string
	mode   int64
	link   string
	source string
	data   []byte
}

// rootfs lists what is in the cage. There is no shell and no interpreter.
func rootfs(bin string, roots []byte) []entry {
	entries := []entry{
		{path: "bin/buildkit-runc", link: "caged"},
		{path: "usr/share/licenses/git/COPYING", mode: 0o644, data: gitLicence},
		{path: "usr/share/licenses/git/README", mode: 0o644, data: gitNotice},
		{path: "bin/buildctl", link: "caged"}, // what buildx calls in a container that it takes for a builder
		{path: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, data: roots},
		{path: "etc/passwd", mode: 0o644, data: []byte("root:x:0:0:root:/:/nonexistent\nnobody:x:65534:65534:nobody:/:/nonexistent\n")},
		{path: "etc/group", mode: 0o644, data: []byte("root:x:0:\nnogroup:x:65534:\n")},
		// The engine mounts its own files over these three.
		{path: "etc/hostname", mode: 0o644},
		{path: "etc/hosts", mode: 0o644},
		{path: "etc/resolv.conf", mode: 0o644},
		{path: "dev/", mode: 0o755},
		{path: strings.TrimPrefix(contract.GitDir, "/") + "/templates/", mode: 0o755}, // for new repositories: none
		{path: "proc/", mode: 0o555},
		{path: "run/", mode: 0o755},
		{path: "sys/", mode: 0o555},
		{path: "tmp/", mode: 0o1777},
		{path: "var/lib/buildkit/", mode: 0o700},
		{path: "var/lib/cni/", mode: 0o700},
	}
	for _, name := range []string{
		contract.CommandGitHTTP, contract.CommandGitHTTPS, contract.CommandGitSubmodule, contract.CommandGitRun,
	} {
		path := strings.TrimPrefix(contract.GitDir, "/") + "/" + name
		entries = append(entries, entry{path: path, link: "../../bin/caged"})
	}
	for name, path := range layout() {
		entries = append(entries, entry{path: path, mode: 0o755, source: filepath.Join(bin, name)})
	}
	return withParents(entries)
}

// layout maps the name of a compiled program to its place in the image.
func layout() map[string]string {
	return map[string]string{
		"caged":      "bin/caged",
		"git":        "bin/git",
		"buildkitd":  "bin/buildkitd",
		"runc":       "bin/runc",
		"ptp":        "opt/cni/bin/ptp",
		"host-local": "opt/cni/bin/host-local",
		"loopback":   "opt/cni/bin/loopback",
	}
}

// withParents adds the missing parent directories.
func withParents(entries []entry) []entry {
	seen := make(map[string]bool)
	for _, e := range entries {
		seen[e.path] = true
	}
	for _, e := range slices.Clone(entries) {
		for dir := parent(e.path); dir != "" && !seen[dir]; dir = parent(dir) {
			seen[dir] = true
			entries = append(entries, entry{path: dir, mode: 0o755})
		}
	}
	return entries
}

func parent(path string) string {
	path = strings.TrimSuffix(path, "/")
	return path[:strings.LastIndexByte(path, '/')+1]
}

// writeTar writes the entries as a tar archive that depends on nothing but
// their paths, modes and contents: sorted, owned by root, dated 1970, in the
// one format that has no optional records.
func writeTar(w io.Writer, entries []entry) error {
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	tw := tar.NewWriter(w)
	for _, e := range entries {
		if err := e.write(tw); err != nil {
			return fmt.Errorf("adding %s: %w", e.path, err)
		}
	}
	return tw.Close()
}

func (e entry) write(tw *tar.Writer) error {
	header := &tar.Header{
		Typeflag: tar.TypeReg,
		Name:     e.path,
		Mode:     e.mode,
		ModTime:  time.Unix(0, 0),
		Format:   tar.FormatUSTAR,
	}
	var body io.Reader = bytes.NewReader(e.data)
	header.Size = int64(len(e.data))
	switch {
	case e.link != "":
		header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, e.link, 0o777
	case strings.HasSuffix(e.path, "/"):
		header.Typeflag = tar.TypeDir
	case e.source != "":
		f, err := os.Open(e.source)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		body, header.Size = f, info.Size()
	}
	if err := tw.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(tw, body)
	return err
}
