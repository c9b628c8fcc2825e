package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/buildcage/buildcage/internal/image"
)

var update = flag.Bool("update", false, "rewrite golden files")

// TestMain lets the scripts run this test binary as buildcage.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" { // see engine_test.go
		os.Exit(Main("v0.0.0-test"))
	}
	testscript.Main(m, map[string]func(){
		"buildcage": func() {
			a := &app{streams: standard(), version: "v0.0.0-test", image: noImage}
			os.Exit(a.main(context.Background(), os.Args[1:]))
		},
		"docker-cage": func() {
			a := &app{streams: standard(), version: "v0.0.0-test", image: noImage}
			os.Exit(a.plugin(os.Args[1:]))
		},
	})
}

// noImage stands for the embedded image, which the unit tests do without. None
// of the scripts gets as far as loading it.
func noImage() (image.Image, error) {
	return image.Image{Tag: "buildcage-test", Arch: "amd64", IDs: []string{"sha256:none"}, Open: func() (io.ReadCloser, error) {
		return nil, errors.New("the tests have no cage image")
	}}, nil
}

// TestScript runs testdata/script/*.txtar. Nothing in there reaches a real
// engine: DOCKER_HOST is a socket that the command "engine" makes.
//
//	exits CODE buildcage …   runs it and wants that exit code
//	hinted                   wants exactly the two lines of an error on stderr
//	engine KIND              starts a fake engine: old, windows, denied
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, ".cache"))
			env.Setenv("DOCKER_HOST", "unix://"+filepath.Join(env.WorkDir, "engine.sock"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  exits,
			"hinted": hintedLines,
			"engine": fakeEngine,
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARGS]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := err.(interface{ ExitCode() int })
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func hintedLines(ts *testscript.TestScript, neg bool, _ []string) {
	lines := strings.Split(strings.TrimSuffix(ts.ReadFile("stderr"), "\n"), "\n")
	if neg || len(lines) != 2 || !strings.HasPrefix(lines[0], "buildcage: error: ") || !strings.HasPrefix(lines[1], "buildcage: hint: ") {
		ts.Fatalf("want one error line and one hint line, got %d lines", len(lines))
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("an error wrote to stdout: %q", out)
	}
}

// fakeEngine answers on the socket that DOCKER_HOST names.
func fakeEngine(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: engine KIND")
	}
	l, err := net.Listen("unix", strings.TrimPrefix(ts.Getenv("DOCKER_HOST"), "unix://"))
	ts.Check(err)
	kind := args[0]
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", map[string]string{"old": "1.39"}[kind]+map[bool]string{true: "1.44"}[kind != "old"])
		w.Header().Set("Ostype", map[bool]string{true: "windows", false: "linux"}[kind == "windows"])
		w.Header().Set("Content-Type", "application/json")
		switch {
		case kind == "denied":
			w.WriteHeader(http.StatusForbidden)
			_ = json.NewEncoder(w).Encode(map[string]string{"message": "not for you"})
		case strings.HasSuffix(r.URL.Path, "/_ping"):
			_, _ = w.Write([]byte("OK"))
		case strings.HasSuffix(r.URL.Path, "/info"):
			_ = json.NewEncoder(w).Encode(map[string]any{"ServerVersion": "test", "Architecture": "x86_64", "OSType": "linux"})
		default:
			_, _ = w.Write([]byte("[]"))
		}
	})}
	go func() { _ = srv.Serve(l) }()
	ts.Defer(func() { _ = srv.Close() })
}
