package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/buildcage/buildcage/test/e2e/lab/pki"
)

// origin is a running server for every name below example.com; see ./origin.
type origin struct {
	address string
	ca      string // file
	token   string // of the private repository
	id      string // of its container
	agent   string // socket of an agent with the key that it accepts
}

// startOrigin starts the server, with repositories of these names, in a
// container of the engine.
func startOrigin(t *testing.T, repositories ...string) origin {
	t.Helper()
	engine(t)
	o := origin{token: rand.Text(), ca: filepath.Join(t.TempDir(), "ca.pem")}
	ca, err := pki.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.ca, ca.PEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	var key string
	o.agent, key = startAgent(t)
	image := originImage(t)
	id := docker(t, append([]string{"run", "-d", "-e", "ORIGIN_TOKEN=" + o.token, "-e", "ORIGIN_KEY=" + key, image}, repositories...)...)
	t.Cleanup(func() { docker(t, "rm", "-fv", id); docker(t, "rmi", image) })
	o.id = id
	o.address = docker(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", id)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	logs := exec.CommandContext(ctx, "docker", "logs", "-f", id)
	out, err := logs.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	logs.Stderr = os.Stderr
	if err := logs.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = logs.Wait() }()
	said := make([]byte, 4096)
	if n, err := out.Read(said); err != nil || !strings.HasPrefix(string(said[:n]), "origin: ready") {
		t.Fatalf("the origin says %q (%v)", said[:n], err)
	}
	return o
}

// originImage imports the server and the git of the cage as an image.
func originImage(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "origin")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", program, "./origin")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build origin: %v\n%s", err, out)
	}
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	for name, file := range map[string]string{"origin": program, "git": filepath.Join(repo, ".cache", "cage", runtime.GOARCH, "bin", "git")} {
		data, err := os.ReadFile(file)
		if err == nil {
			err = w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data)), Typeflag: tar.TypeReg})
		}
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	load := exec.Command("docker", "import", "--change", `ENTRYPOINT ["/origin"]`, "-")
	load.Stdin = &image
	out, err := load.Output()
	if err != nil {
		t.Fatalf("docker import: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// startAgent serves an agent with a new key, which it also returns.
func startAgent(t *testing.T) (socket, key string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	authorized, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(keys, conn); conn.Close() }()
		}
	}()
	return socket, string(ssh.MarshalAuthorizedKey(authorized))
}

// args lead a cage to the origin.
func (o origin) args(more ...string) []string {
	return append([]string{"--cage-resolver", o.address + ":53", "--extra-ca", o.ca}, more...)
}

// policy is a policy file in which the builder has the rules.
func (o origin) policy(builder string) string {
	return "version: 1\nallow_private: [" + o.address + "/32]\nbuilder: " + builder + "\n"
}
