package docker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/client"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/docker"
	"github.com/buildcage/buildcage/internal/docker/dockertest"
)

// engineOf is an engine that answers what a real one of another kind would.
func engineOf(t *testing.T, api, os string, routes map[string]any) *docker.Engine {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Api-Version", api)
		w.Header().Set("Ostype", os)
	})
	for route, answer := range routes {
		mux.HandleFunc(fmt.Sprintf("/v%s%s", api, route), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(answer)
		})
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return connect(t, "tcp://"+server.Listener.Addr().String())
}

func connect(t *testing.T, host string) *docker.Engine {
	t.Helper()
	c, err := client.New(client.WithHost(host))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &docker.Engine{Client: c}
}

func TestCheckRefuses(t *testing.T) {
	amd64 := map[string]any{"/info": map[string]any{"Architecture": "x86_64", "ServerVersion": "20.10.24"}}
	nobody := "unix://" + filepath.Join(t.TempDir(), "none.sock")
	tests := []struct {
		name   string
		engine *docker.Engine
		arch   string
		kind   docker.Kind
		text   string
		hint   string
	}{
		{"no socket", connect(t, nobody), "", docker.NoEngine, "no Docker engine answers at unix://", "DOCKER_HOST"},
		{"nobody listens", connect(t, "tcp://127.0.0.1:1"), "", docker.NoEngine, "tcp://127.0.0.1:1", "systemctl start docker"},
		{"older than the client", engineOf(t, "1.38", "linux", amd64), "", docker.TooOld, "speaks API 1.38", "20.10"},
		{"too old", engineOf(t, "1.40", "linux", amd64), "", docker.TooOld, "speaks API 1.40", "20.10"},
		{"windows", engineOf(t, "1.47", "windows", amd64), "", docker.WrongOS, "runs windows containers", "Linux containers"},
		{"other machine", engineOf(t, "1.41", "linux", amd64), "arm64", docker.WrongArch, "runs on amd64", runtime.GOOS + "/amd64, or an engine on arm64"},
		{"broken", engineOf(t, "1.41", "linux", nil), "", docker.Unspecified, "asking the Docker engine", "docker version"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.engine.Check(t.Context(), tt.arch)
			var e *docker.Error
			if !errors.As(err, &e) || e.Kind != tt.kind {
				t.Fatalf("Check: %v (%+v), want kind %q", err, e, tt.kind)
			}
			if !strings.Contains(e.Error(), tt.text) || !strings.Contains(e.Hint(), tt.hint) || strings.Contains(e.Error(), "\n") {
				t.Errorf("says %q with hint %q", e.Error(), e.Hint())
			}
		})
	}
}

// refusedDialer is a socket that this user may not open. It is the one thing
// that root can't have for real.
type refusedDialer struct{ client.APIClient }

func (refusedDialer) DaemonHost() string { return "unix:///var/run/docker.sock" }
func (refusedDialer) Ping(context.Context, client.PingOptions) (client.PingResult, error) {
	return client.PingResult{}, errors.New("permission denied while trying to connect to the docker API")
}
func (refusedDialer) Dialer() func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", os.ErrPermission)}
	}
}

func TestCheckWithoutPermission(t *testing.T) {
	_, err := (&docker.Engine{Client: refusedDialer{}}).Check(t.Context(), "")
	if !docker.IsKind(err, docker.NoAccess) {
		t.Fatalf("Check: %v, want kind %q", err, docker.NoAccess)
	}
}

func TestCheckFacts(t *testing.T) {
	e := engineOf(t, "1.47", "linux", map[string]any{"/info": map[string]any{
		"Architecture": "aarch64", "ServerVersion": "28.0.1",
		"SecurityOptions": []string{"name=apparmor", "name=seccomp,profile=builtin", "name=selinux"},
		"DriverStatus":    [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}},
	}})
	got, err := e.Check(t.Context(), "arm64")
	if err != nil {
		t.Fatal(err)
	}
	want := docker.Facts{Version: "28.0.1", APIVersion: "1.47", Arch: "arm64", AppArmor: true, SELinux: true, Containerd: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
}

func TestAddresses(t *testing.T) {
	ipam := func(configs ...map[string]any) map[string]any {
		return map[string]any{"IPAM": map[string]any{"Config": configs}}
	}
	e := engineOf(t, "1.41", "linux", map[string]any{
		"/info": map[string]any{"Swarm": map[string]any{"NodeAddr": "192.0.2.9"}},
		"/networks": []any{
			ipam(map[string]any{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}),
			ipam(map[string]any{"Subnet": "172.18.0.0/16"}, map[string]any{"Subnet": "fd00:1::/64", "Gateway": "fd00:1::1"}),
			ipam(),
			ipam(map[string]any{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}),
		},
	})
	got, err := e.Addresses(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, p := range got {
		texts = append(texts, p.String())
	}
	want := []string{"127.0.0.1/32", "172.17.0.1/32", "172.18.0.1/32", "192.0.2.9/32", "fd00:1::1/128"}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

func TestAddressesOfRealEngine(t *testing.T) {
	e := dockertest.Engine(t)
	got, err := e.Addresses(t.Context())
	if err != nil || len(got) == 0 {
		t.Fatalf("addresses: %v, %v", got, err)
	}
	for _, p := range got {
		if !p.IsSingleIP() || p.Addr() == (netip.Addr{}) {
			t.Errorf("address %s is not one address", p)
		}
	}
}

// An engine that does not tell its networks leaves the guard unknown.
func TestAddressesFailClosed(t *testing.T) {
	e := engineOf(t, "1.41", "linux", map[string]any{"/info": map[string]any{}})
	if got, err := e.Addresses(t.Context()); err == nil {
		t.Errorf("addresses: %v without an error", got)
	}
}

func TestClassify(t *testing.T) {
	if err := docker.Classify("loading", errors.New("write /var/lib/docker/x: no space left on device")); !docker.IsKind(err, docker.DiskFull) {
		t.Errorf("a full disk is %v", err)
	}
	if err := docker.Classify("loading", context.Canceled); !errors.Is(err, context.Canceled) || docker.IsKind(err, docker.Unspecified) {
		t.Errorf("a cancellation is %v", err)
	}
}

// A sweep takes what is dead and leaves what may live.
func TestCacheOf(t *testing.T) {
	const gb = 1_000_000_000
	for _, c := range []struct {
		most int64
		slot int
		want int64
	}{
		{20 * gb, 0, 20 * gb}, {20 * gb, 1, 10 * gb}, {20 * gb, 4, 20 * gb / 16}, {20 * gb, 63, 20 * gb / 16},
		{gb / 10, 0, gb / 10}, {gb / 10, 63, gb / 10}, {2*gb - 1, 1, 2*gb - 1}, {0, 5, 0},
	} {
		if got := docker.CacheOf(c.most, c.slot); got != c.want {
			t.Errorf("%d in slot %d: %d, want %d", c.most, c.slot, got, c.want)
		}
	}
}

func TestSweep(t *testing.T) {
	e, facts, c := loaded(t)
	alive, orphan := c, c
	alive.Boot.RunID, orphan.Boot.RunID = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"
	running, lost := start(t, e, facts, alive), start(t, e, facts, orphan)
	created, err := e.Create(t.Context(), facts, orphan)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Sweep(t.Context(), func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if got := containers(t, e); len(got) != 3 {
		t.Errorf("a sweep without knowledge left %v of three young cages", got)
	}
	if err := e.Sweep(t.Context(), func(run string) bool { return run == orphan.Boot.RunID }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/" + running.Name}, containers(t, e)); diff != "" {
		t.Errorf("containers after the sweep (-want +got):\n%s", diff)
	}
	<-lost.Done()
	if _, err := e.Client.VolumeInspect(t.Context(), e.VolumeName(lost.Slot), client.VolumeInspectOptions{}); err != nil {
		t.Errorf("the state volume did not stay: %v", err)
	}
	_ = created
}

func TestAbandoned(t *testing.T) {
	old, young := time.Now().Add(-2*docker.SweepGrace).Unix(), time.Now().Unix()
	gone := func(run string) bool { return run == "gone" }
	tests := []struct {
		state   string
		created int64
		run     string
		want    bool
	}{
		{"running", old, "other", false},
		{"running", old, "", false},
		{"running", young, "gone", true},
		{"paused", old, "other", false},
		{"created", young, "other", false},
		{"created", old, "other", true},
		{"exited", old, "", true},
		{"exited", young, "gone", true},
		{"dead", old, "other", true},
		{"removing", old, "gone", false},
	}
	for _, tt := range tests {
		if got := docker.Abandoned(tt.state, tt.created, map[string]string{contract.LabelRun: tt.run}, gone); got != tt.want {
			t.Errorf("%s, created %d, run %q: abandoned %t, want %t", tt.state, tt.created, tt.run, got, tt.want)
		}
	}
}

func TestNoSuchNetwork(t *testing.T) {
	e, facts, c := loaded(t)
	c.Network = "buildcage-no-such-network"
	if _, err := e.Start(t.Context(), facts, c); !docker.IsKind(err, docker.NoNetwork) {
		t.Errorf("Start: %v, want kind %q", err, docker.NoNetwork)
	}
}

func TestNoSuchImage(t *testing.T) {
	e, facts, c := loaded(t)
	c.Image = "sha256:" + strings.Repeat("0", 64)
	_, err := e.Start(t.Context(), facts, c)
	var gone *docker.ErrImageGone
	if !errors.As(err, &gone) {
		t.Errorf("Start: %v, want ErrImageGone", err)
	}
}
