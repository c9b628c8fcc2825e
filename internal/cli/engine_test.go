package cli

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/buildcage/buildcage/embed"
	"github.com/buildcage/buildcage/internal/report"
)

// asProgram in the environment makes this test binary the program.
const asProgram = "BUILDCAGE_TEST_AS_PROGRAM"

// rig is a build context whose base image exists in the local engine only.
type rig struct {
	engine client.APIClient
	image  string
	dir    string
}

// newRig needs the engine of the environment and the embedded cage image.
// Unset skips; asked for but unusable fails.
func newRig(t *testing.T) *rig {
	t.Helper()
	if os.Getenv("BUILDCAGE_TEST_ENGINE") == "" {
		t.Skip("set BUILDCAGE_TEST_ENGINE=1 (after make cage) to run this against the Docker engine of the environment")
	}
	if _, err := embed.Cage(); err != nil {
		t.Fatal(err)
	}
	api, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{engine: api, image: fmt.Sprintf("buildcage-test.example.com/cli:%d", time.Now().UnixNano()), dir: t.TempDir()}
	probe := filepath.Join(t.TempDir(), "probe")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", probe, "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the probe: %v\n%s", err, out)
	}
	r.load(t, probe)
	return r
}

// load makes the base image out of the probe.
func (r *rig) load(t *testing.T, probe string) {
	t.Helper()
	dt, err := os.ReadFile(probe)
	if err != nil {
		t.Fatal(err)
	}
	var root bytes.Buffer
	w := tar.NewWriter(&root)
	if err := w.WriteHeader(&tar.Header{Name: "probe", Mode: 0o755, Size: int64(len(dt))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(dt); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	src := client.ImageImportSource{Source: &root, SourceName: "-"}
	answer, err := r.engine.ImageImport(t.Context(), src, r.image, client.ImageImportOptions{Changes: []string{"LABEL com.buildcage.test=1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, answer); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.remove(t, r.image) })
}

func (r *rig) remove(t *testing.T, image string) {
	if _, err := r.engine.ImageRemove(context.WithoutCancel(t.Context()), image, client.ImageRemoveOptions{Force: true}); err != nil {
		t.Errorf("a test image is left: %v", err)
	}
}

// command runs the program on a Dockerfile whose steps are given.
func (r *rig) command(t *testing.T, steps string, args ...string) *exec.Cmd {
	t.Helper()
	text := "FROM " + r.image + "\n" + steps
	if err := os.WriteFile(filepath.Join(r.dir, "Dockerfile"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], append(args, r.dir)...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), asProgram+"=1", "XDG_CACHE_HOME="+filepath.Join(r.dir, ".cache"))
	return cmd
}

func (r *rig) run(t *testing.T, steps string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	cmd := r.command(t, steps, args...)
	cmd.Stdout, cmd.Stderr = &out, &err
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode(), out.String(), err.String()
}

func TestBuildWithEngine(t *testing.T) {
	r := newRig(t)
	dial := `RUN ["/probe", "dial", "collector.example.com:443"]` + "\n"

	t.Run("blocked", func(t *testing.T) {
		code, out, msg := r.run(t, dial, "build", "--no-cache", "--load=false", "--report", "json")
		var rep report.Report
		if err := json.Unmarshal([]byte(out), &rep); err != nil {
			t.Fatalf("%v in %q\n%s", err, out, msg)
		}
		if code != 3 || rep.Outcome != report.Refused || len(rep.Destinations) != 1 || rep.Destinations[0].Host != "collector.example.com" {
			t.Errorf("exit %d, report %+v\n%s", code, rep, msg)
		}
		if !strings.Contains(msg, "--allow-tcp collector.example.com:443") {
			t.Errorf("the report as text does not say what to add:\n%s", msg)
		}
	})
	t.Run("not failing", func(t *testing.T) {
		if code, _, msg := r.run(t, dial, "build", "--no-cache", "--load=false", "--fail-on-blocked=false"); code != 0 {
			t.Errorf("exit %d\n%s", code, msg)
		}
	})
	t.Run("quiet", func(t *testing.T) {
		code, out, msg := r.run(t, "ENV A=b\n", "build", "-q")
		id := strings.TrimSpace(out)
		if code != 0 || msg != "" || !strings.HasPrefix(id, "sha256:") {
			t.Fatalf("exit %d, stdout %q, stderr %q, want an image id only", code, out, msg)
		}
		defer r.remove(t, id)
		if _, err := r.engine.ImageInspect(t.Context(), id); err != nil {
			t.Errorf("the result is not in the engine: %v", err)
		}
	})
	t.Run("failed step", func(t *testing.T) {
		code, _, msg := r.run(t, `RUN ["/probe", "fail"]`+"\n", "build", "--progress", "plain")
		if code != 1 || !strings.Contains(msg, ">>> RUN") || strings.Count(msg, "buildcage: error: ") != 1 {
			t.Errorf("exit %d\n%s", code, msg)
		}
	})
	t.Run("audit", func(t *testing.T) {
		file := filepath.Join(r.dir, "buildcage.yaml")
		// What the probe says is no protocol. Audit refuses that, too: it is seen,
		// each time, but no rule is written.
		for i := range 2 {
			code, _, msg := r.run(t, dial, "audit", "--load=false", "--write", file)
			if text := read(t, file); code != 3 || strings.Contains(text, "collector.example.com") {
				t.Fatalf("run %d: exit %d, want 3; file %q\n%s", i, code, text, msg)
			}
			if !strings.Contains(msg, "collector.example.com:443  ") {
				t.Errorf("run %d: the report does not list what was reached:\n%s", i, msg)
			}
		}
	})
}

func TestInterruptWithEngine(t *testing.T) {
	r := newRig(t)
	cmd := r.command(t, `RUN ["/probe", "wait"]`+"\n", "build", "--progress", "plain", "--no-cache")
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		all.WriteString(lines.Text() + "\n")
		if strings.HasSuffix(lines.Text(), " waiting") {
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 || !strings.HasSuffix(all.String(), "buildcage: interrupted\n") {
		t.Errorf("exit %d\n%s", code, all.String())
	}
}
