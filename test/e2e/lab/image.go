package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// build compiles the lab's programs; Go's cache makes it quick. On a machine
// without Go, BUILDCAGE_LAB_PROGRAMS is a directory that holds them.
func (l *Lab) build(ctx context.Context) error {
	for _, program := range []string{"node", "probe"} {
		if made := os.Getenv("BUILDCAGE_LAB_PROGRAMS"); made != "" {
			b, err := os.ReadFile(filepath.Join(made, program))
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(l.dir, program), b, 0o755); err != nil {
				return err
			}
			continue
		}
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w",
			"-o", filepath.Join(l.dir, program), "./test/e2e/lab/"+program)
		cmd.Dir = l.repo
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w: %s", program, err, out)
		}
	}
	return nil
}

// stepImage is the image of steps as an OCI layout, for the builder that has
// no engine behind it.
type stepImage struct{ layout, digest string }

func (l *Lab) images(ctx context.Context) error {
	node, err := archive(entry{name: "node", file: filepath.Join(l.dir, "node"), mode: 0o755})
	if err != nil {
		return err
	}
	if l.image, err = importImage(ctx, "buildcage-lab:node", node, "ENTRYPOINT [\"/node\"]"); err != nil {
		return err
	}
	step, err := l.stepArchive(ctx)
	if err != nil {
		return err
	}
	if _, err := importImage(ctx, StepImage, step, "ENV PATH=/bin", "ENV HOME=/root", "WORKDIR /work"); err != nil {
		return err
	}
	return l.writeLayout(step)
}

// stepArchive holds probe, busybox under all its names, and the lab's CA.
func (l *Lab) stepArchive(ctx context.Context) ([]byte, error) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, errors.New("busybox is missing: make setup installs busybox-static")
	}
	list, err := exec.CommandContext(ctx, busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("asking busybox for its names: %w", err)
	}
	entries := []entry{
		{name: "bin/", mode: 0o755}, {name: "root/", mode: 0o700}, {name: "work/", mode: 0o755}, {name: "tmp/", mode: 0o1777},
		{name: "etc/", mode: 0o755}, {name: "etc/ssl/", mode: 0o755}, {name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/passwd", mode: 0o644, text: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"},
		{name: "etc/group", mode: 0o644, text: "root:x:0:\nnogroup:x:65534:\n"},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, file: l.CAFile},
		{name: "bin/probe", mode: 0o755, file: filepath.Join(l.dir, "probe")},
		{name: "bin/busybox", mode: 0o755, file: busybox},
	}
	for name := range strings.FieldsSeq(string(list)) {
		if name != "busybox" && !strings.Contains(name, "/") {
			entries = append(entries, entry{name: "bin/" + name, link: "busybox"})
		}
	}
	return archive(entries...)
}

// entry is a file of an archive.
type entry struct {
	name, file, text, link string
	mode                   int64
}

// archive is a tar that depends on nothing but content.
func archive(entries ...entry) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		data := []byte(e.text)
		if e.file != "" {
			var err error
			if data, err = os.ReadFile(e.file); err != nil {
				return nil, err
			}
		}
		h := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(data)), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		switch {
		case e.link != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, e.link, 0o777
		case strings.HasSuffix(e.name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// importImage makes an image from an archive, unless it is there already: an
// image that keeps its id keeps its place in caches.
func importImage(ctx context.Context, tag string, data []byte, changes ...string) (string, error) {
	sum := sha256.Sum256(append([]byte(strings.Join(changes, "\n")), data...))
	content := hex.EncodeToString(sum[:])
	if have, err := docker(ctx, "image", "inspect", "--format", `{{index .Config.Labels "`+label+`.content"}}`, tag); err == nil && have == content {
		return tag, nil
	}
	args := []string{"import"}
	for _, c := range append(changes, "LABEL "+label+"=1 "+label+".content="+content) {
		args = append(args, "--change", c)
	}
	if _, err := dockerIn(ctx, bytes.NewReader(data), append(args, "-", tag)...); err != nil {
		return "", err
	}
	return tag, nil
}

type object = map[string]any

// writeLayout writes the step image as an OCI layout.
func (l *Lab) writeLayout(layer []byte) error {
	dir := filepath.Join(l.dir, "step")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	put := func(kind string, v any) (object, error) {
		data, ok := v.([]byte)
		if !ok {
			var err error
			if data, err = json.Marshal(v); err != nil {
				return nil, err
			}
		}
		sum := sha256.Sum256(data)
		name := hex.EncodeToString(sum[:])
		return object{"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + name, "size": len(data)},
			os.WriteFile(filepath.Join(dir, "blobs", "sha256", name), data, 0o644)
	}
	tarball, err := put("layer.v1.tar", layer)
	if err != nil {
		return err
	}
	config, err := put("config.v1+json", object{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": object{"Env": []string{"PATH=/bin", "HOME=/root"}, "WorkingDir": "/work"},
		"rootfs": object{"type": "layers", "diff_ids": []any{tarball["digest"]}},
	})
	if err != nil {
		return err
	}
	manifest, err := put("manifest.v1+json", object{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": []object{tarball},
	})
	if err != nil {
		return err
	}
	index, err := json.Marshal(object{"schemaVersion": 2, "manifests": []object{manifest}})
	if err != nil {
		return err
	}
	l.step = stepImage{layout: dir, digest: fmt.Sprint(manifest["digest"])}
	return errors.Join(
		os.WriteFile(path.Join(dir, "index.json"), index, 0o644),
		os.WriteFile(path.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
}
