package docker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/docker"
	"github.com/buildcage/buildcage/internal/docker/dockertest"
)

// loaded returns an engine with the stand-in image and a configuration for it.
func loaded(t *testing.T) (*docker.Engine, docker.Facts, docker.Config) {
	t.Helper()
	e := dockertest.Engine(t)
	facts, err := e.Check(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	a := dockertest.NewArchive(t, e.Client, dockertest.Repository())
	answer, err := e.Client.ImageLoad(t.Context(), bytes.NewReader(a.Tar))
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, answer)
	answer.Close()
	return e, facts, docker.Config{
		Image: a.ID,
		Boot:  contract.Boot{Version: contract.BootVersion, RunID: "0123456789abcdef", CLI: "test"},
	}
}

func start(t *testing.T, e *docker.Engine, facts docker.Facts, c docker.Config) *docker.Cage {
	t.Helper()
	cage, err := e.Start(t.Context(), facts, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cage.Remove(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return cage
}

// The container is what docs/threat-model.md promises, as the engine sees it.
func TestCageIsConfined(t *testing.T) {
	e, facts, c := loaded(t)
	cage := start(t, e, facts, c)
	got, err := e.Client.ContainerInspect(t.Context(), cage.ID, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	host, config := got.Container.HostConfig, got.Container.Config
	slices.Sort(host.CapAdd)
	seccomp := slices.ContainsFunc(host.SecurityOpt, func(o string) bool { return strings.HasPrefix(o, "seccomp={") })
	type facet struct {
		Privileged, ReadOnly, AutoRemove, Seccomp, PublishAll bool
		CapAdd, Binds, VolumesFrom, Mounts                    []string
		Ports, Devices                                        int
		Cgroupns, Network, Restart, Log, PID, IPC             string
		Labels                                                map[string]string
	}
	var mounts []string
	for _, m := range got.Container.Mounts {
		mounts = append(mounts, fmt.Sprintf("%s %s %s", m.Type, m.Name, m.Destination))
	}
	have := facet{
		Privileged: host.Privileged, ReadOnly: host.ReadonlyRootfs, AutoRemove: host.AutoRemove, Seccomp: seccomp,
		PublishAll: host.PublishAllPorts, CapAdd: host.CapAdd, Binds: host.Binds, VolumesFrom: host.VolumesFrom, Mounts: mounts,
		Ports: len(host.PortBindings) + len(config.ExposedPorts), Devices: len(host.Devices),
		Cgroupns: string(host.CgroupnsMode), Network: string(host.NetworkMode), Restart: string(host.RestartPolicy.Name),
		Log: host.LogConfig.Type, PID: string(host.PidMode), IPC: string(host.IpcMode), Labels: config.Labels,
	}
	delete(have.Labels, contract.Label+".test")
	want := facet{
		ReadOnly: true, AutoRemove: true, Seccomp: true,
		CapAdd:   []string{"CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"},
		Mounts:   []string{fmt.Sprintf("volume %s %s", e.VolumeName(cage.Slot), contract.StateDir)},
		Cgroupns: "private", Network: "default", Restart: "no", Log: "none", IPC: "private",
		Labels: map[string]string{
			contract.Label: "1", contract.LabelRun: c.Boot.RunID, contract.LabelSlot: "0", contract.LabelVersion: "test",
		},
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("container (-want +got):\n%s", diff)
	}
}

func TestBoot(t *testing.T) {
	e, facts, c := loaded(t)
	tests := []struct {
		version, text, hint, log string
	}{
		{"fail", "no nftables here", "modprobe[31m nf_tables", "boot: 6 bytes"},
		{"crash", "exit code 2", "--debug", "panic: something went [31mwrong"},
		{"garbage", `unexpected output "Segmentation fault"`, "--debug", ""},
		{"hang", "not ready after 3s", "--debug", "1 guarded"},
	}
	for _, tt := range tests {
		t.Run(tt.version, func(t *testing.T) {
			c := c
			c.Boot.CLI = tt.version
			if tt.version == "hang" {
				c.BootTimeout = 3 * time.Second
			}
			c.Boot.ExtraCA, c.Boot.Guard = "PEM\n\r\n", []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}
			_, err := e.Start(t.Context(), facts, c)
			var boot *docker.BootError
			if !errors.As(err, &boot) {
				t.Fatalf("Start: %v, want a BootError", err)
			}
			for what, pair := range map[string][2]string{
				"text": {boot.Error(), tt.text}, "hint": {boot.Hint(), tt.hint}, "log": {boot.Diagnostics(), tt.log},
			} {
				if !strings.Contains(pair[0], pair[1]) {
					t.Errorf("%s is %q, want %q in it", what, pair[0], pair[1])
				}
			}
			if left := containers(t, e); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func containers(t *testing.T, e *docker.Engine) (names []string) {
	t.Helper()
	list, err := e.Client.ContainerList(t.Context(), client.ContainerListOptions{
		All: true, Filters: make(client.Filters).Add("name", e.Prefix+"-"),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list.Items {
		names = append(names, c.Names...)
	}
	return names
}

// A cancelled boot leaves nothing and is a cancellation, not a boot failure.
func TestBootCancelled(t *testing.T) {
	e, facts, c := loaded(t)
	c.Boot.CLI = "hang"
	ctx, cancel := context.WithCancel(t.Context())
	c.Diagnostics = writerFunc(func([]byte) { cancel() }) // it has read the boot line
	if _, err := e.Start(ctx, facts, c); !errors.Is(err, context.Canceled) {
		t.Errorf("Start: %v, want a cancellation", err)
	}
	if left := containers(t, e); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// Cages that start at once get the lowest slots, one each; a slot that is free
// again is taken again, with its volume.
func TestSlots(t *testing.T) {
	e, facts, c := loaded(t)
	const n = 3
	cages := make([]*docker.Cage, n)
	var all sync.WaitGroup
	for i := range cages {
		all.Go(func() {
			var err error
			if cages[i], err = e.Start(t.Context(), facts, c); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	var slots []int
	for _, cage := range cages {
		slots = append(slots, cage.Slot)
	}
	slices.Sort(slots)
	if diff := cmp.Diff([]int{0, 1, 2}, slots); diff != "" {
		t.Errorf("slots (-want +got):\n%s", diff)
	}
	middle := slices.IndexFunc(cages, func(c *docker.Cage) bool { return c.Slot == 1 })
	if err := cages[middle].Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	cages[middle] = start(t, e, facts, c)
	if got := cages[middle].Slot; got != 1 {
		t.Errorf("slot %d, want the freed 1", got)
	}
	for _, cage := range cages {
		if err := cage.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestExec(t *testing.T) {
	e, facts, c := loaded(t)
	cage := start(t, e, facts, c)
	s, err := cage.Exec(t.Context(), contract.CommandDialStdio)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var sent strings.Builder
	for i := range 20_000 { // more than any buffer on the way
		fmt.Fprintf(&sent, "%d.example.com\n", i)
	}
	go func() {
		io.WriteString(s, sent.String())
		s.CloseWrite()
	}()
	got, err := io.ReadAll(s)
	if err != nil || string(got) != sent.String() {
		t.Errorf("%d bytes came back of %d, error %v", len(got), sent.Len(), err)
	}
	if err := s.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if err := cage.Run(t.Context(), contract.CommandSeal); err != nil {
		t.Error(err)
	}
	if err := cage.Run(t.Context(), "no-such-command"); err == nil || !strings.Contains(err.Error(), "broken off") {
		t.Errorf("a failing command: %v, want what it said", err)
	}
}

// However a cage ends, Done tells, and streams into it end too.
func TestDeath(t *testing.T) {
	e, facts, c := loaded(t)
	tests := []struct {
		name string
		end  func(*testing.T, *docker.Cage, *docker.Stream)
		want docker.Exit
		text string
	}{
		{"killed", func(t *testing.T, cage *docker.Cage, _ *docker.Stream) {
			if _, err := e.Client.ContainerKill(t.Context(), cage.ID, client.ContainerKillOptions{Signal: "KILL"}); err != nil {
				t.Fatal(err)
			}
		}, docker.Exit{Code: 137}, "was killed"},
		{"by itself", func(t *testing.T, _ *docker.Cage, s *docker.Stream) {
			fmt.Fprintln(s, "die")
		}, docker.Exit{Code: 125, Text: "buildkitd is dead"}, "buildkitd is dead"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cage := start(t, e, facts, c)
			s, err := cage.Exec(t.Context(), contract.CommandDialStdio)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			tt.end(t, cage, s)
			<-cage.Done()
			io.Copy(io.Discard, s) // ends
			got := cage.Exit()
			got.Log = ""
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("exit (-want +got):\n%s", diff)
			}
			if !strings.Contains(got.Error(), tt.text) || got.Hint() == "" {
				t.Errorf("exit says %q with hint %q", got.Error(), got.Hint())
			}
		})
	}
}

// The kernel closes a dead client's connections; the engine then closes the
// cage's input, the cage stops, and the engine removes it.
func TestClientGone(t *testing.T) {
	e, facts, c := loaded(t)
	cage := start(t, e, facts, c)
	removed := e.Client.ContainerWait(t.Context(), cage.ID, client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
	cage.Abandon()
	select {
	case <-removed.Result:
	case err := <-removed.Error:
		t.Fatal(err)
	}
	<-cage.Done()
	if exit := cage.Exit(); exit.Code != 0 {
		t.Errorf("exit %+v, want an orderly stop", exit)
	}
}
