package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// own is an engine that a test has for itself, for what can't be done to one
// that others use: to stop it, and to remove whatever is in it.
type own struct {
	dir, bridge string
	daemon      *exec.Cmd
	gone        chan struct{} // closed when the daemon has ended
}

// ownEngine starts one, makes it the engine of the test, and removes it with
// all that is in it afterwards. It leaves the machine's packet filter alone, so
// nothing in it reaches anything.
func ownEngine(t *testing.T) *own {
	t.Helper()
	engine(t) // asks for the gate
	dir, err := os.MkdirTemp("", "own-")
	if err != nil {
		t.Fatal(err)
	}
	e := &own{dir: dir, bridge: fmt.Sprintf("bc%d", os.Getpid()%1_000_000)}
	t.Cleanup(func() { e.remove(t) })
	e.link(t)
	t.Setenv("DOCKER_HOST", "unix://"+e.socket())
	t.Setenv("DOCKER_CONTEXT", "")
	e.start(t)
	return e
}

func (e *own) socket() string { return filepath.Join(e.dir, "sock") }

// link makes the bridge, on a network of the machine that nobody else has.
func (e *own) link(t *testing.T) {
	t.Helper()
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: e.bridge}}
	if err := netlink.LinkAdd(bridge); err != nil {
		t.Fatalf("making a bridge: %v", err)
	}
	used, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 250; i++ {
		prefix := fmt.Sprintf("10.231.%d.", i)
		if strings.Contains(fmt.Sprint(used), prefix) {
			continue
		}
		addr, err := netlink.ParseAddr(prefix + "1/24")
		if err == nil {
			err = netlink.AddrAdd(bridge, addr)
		}
		if err == nil {
			err = netlink.LinkSetUp(bridge)
		}
		if err != nil {
			t.Fatalf("making a bridge: %v", err)
		}
		return
	}
	t.Fatal("no network is free")
}

// start returns when the engine answers.
func (e *own) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(e.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	e.daemon = exec.Command("dockerd", "--data-root", e.data(), "--exec-root", filepath.Join(e.dir, "exec"),
		"--pidfile", filepath.Join(e.dir, "pid"), "--host", "unix://"+e.socket(), "--bridge", e.bridge, "--storage-driver", "overlay2",
		"--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false")
	e.daemon.Stdout, e.daemon.Stderr = log, log
	if err := e.daemon.Start(); err != nil {
		t.Fatalf("starting an engine: %v", err)
	}
	gone := make(chan struct{})
	e.gone = gone
	go func(daemon *exec.Cmd) {
		defer close(gone)
		_ = daemon.Wait()
	}(e.daemon)
	for deadline := time.Now().Add(time.Minute); exec.Command("docker", "version").Run() != nil; {
		select {
		case <-e.gone:
			t.Fatalf("the engine ended:\n%s", e.said())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("the engine does not answer:\n%s", e.said())
		}
	}
}

func (e *own) log() string { return filepath.Join(e.dir, "log") }

func (e *own) said() string {
	text, _ := os.ReadFile(e.log())
	return tail(string(text))
}

// end sends the engine a signal and waits for its end.
func (e *own) end(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := e.daemon.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	select {
	case <-e.gone:
	case <-time.After(time.Minute):
		t.Fatalf("the engine does not end:\n%s", e.said())
	}
}

// remove ends what runs in the engine and the engine, and takes away its files.
// The engine is named: the environment may be that of after the test.
func (e *own) remove(t *testing.T) {
	if e.daemon != nil {
		at := []string{"--host", "unix://" + e.socket()}
		for id := range strings.FieldsSeq(docker(t, append(at, "ps", "-aq")...)) {
			docker(t, append(at, "rm", "-f", id)...)
		}
		e.end(t, syscall.SIGTERM)
	}
	if err := netlink.LinkDel(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: e.bridge}}); err != nil {
		t.Errorf("removing the bridge: %v", err)
	}
	// An engine mounts its directory onto itself, and one that was killed leaves that.
	if err := syscall.Unmount(e.data(), syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
		t.Errorf("removing the engine: %v", err)
	}
	if err := os.RemoveAll(e.dir); err != nil {
		t.Errorf("removing the engine: %v", err)
	}
}

func (e *own) data() string { return filepath.Join(e.dir, "data") }
