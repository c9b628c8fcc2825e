// Package lab is an isolated network in which hostile builds are run: an
// origin that is allowed, a sink that accepts and counts everything, a scripted
// resolver, and a capture on the uplink of every cage. Nothing in it, and
// nothing that a cage in it sends, has a way out; Start refuses to begin when
// that is not so.
//
// The sink is the default gateway of every cage, so any address that is not in
// the lab's subnet "exists" and leads there: a leak is seen as traffic, not
// inferred from an error.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/test/e2e/lab/pki"
	"github.com/buildcage/buildcage/test/e2e/lab/wire"
)

// Gate is the environment variable that asks for tests in the lab.
const Gate = "BUILDCAGE_TEST_LAB"

const (
	// Network is the engine's name of the lab's network.
	Network = "buildcage-lab"
	bridge  = "buildcage-lab"
	// StepImage is what the Dockerfiles of cases begin with.
	StepImage = "buildcage-lab:step"
	label     = "com.buildcage.lab"
	// Prefix begins the names of the lab's cages and of the volumes with their
	// caches, which end with the lab.
	Prefix = "buildcage-lab"
)

// Lab is a running lab.
type Lab struct {
	Origin, Sink, Names *Node
	// CAFile holds the lab's certificate authority, Pin the key of its servers.
	CAFile, Pin string

	repo  string // the checkout
	dir   string // of built programs, kept between runs
	lock  *os.File
	image string // of nodes
	step  stepImage
	undo  []func(context.Context) error

	mu      sync.Mutex
	cages   map[string]*Cage
	waiting chan struct{} // closed and replaced when a cage is added
	plain   *Uncaged

	published bool // images are in the registry
}

// Start brings up the lab. repo is the root of the checkout.
func Start(ctx context.Context, repo string) (_ *Lab, err error) {
	l := &Lab{repo: repo, dir: filepath.Join(repo, ".cache", "lab"), cages: make(map[string]*Cage), waiting: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Stop(context.WithoutCancel(ctx)))
		}
	}()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"taking the lab's lock", l.takeLock},
		{"cleaning up", l.sweep},
		{"building the lab's programs", l.build},
		{"writing the lab's certificates", l.certificates},
		{"importing the lab's images", l.images},
		{"creating the lab's network", l.network},
		{"starting the lab's nodes", l.nodes},
		{"watching for cages", l.watch},
		{"checking that the lab is closed", l.checkClosed},
	} {
		if err := step.do(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return l, nil
}

// Stop takes the lab down.
func (l *Lab) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var errs []error
	for i := len(l.undo) - 1; i >= 0; i-- {
		errs = append(errs, l.undo[i](ctx))
	}
	l.undo = nil
	return errors.Join(errs...)
}

// Dir is for files that outlive the lab: programs, certificates, results.
func (l *Lab) Dir() string { return l.dir }

func (l *Lab) later(f func(context.Context) error) { l.undo = append(l.undo, f) }

// takeLock waits for another lab on this machine: addresses and names are fixed.
func (l *Lab) takeLock(ctx context.Context) error {
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "lab-of-buildcage.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	l.lock = f
	l.later(func(context.Context) error { return f.Close() })
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("another lab is running: %w", ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// sweep removes what a killed lab left.
func (l *Lab) sweep(ctx context.Context) error {
	ids, err := docker(ctx, "ps", "-aq", "--filter", "label="+label)
	if err != nil {
		return err
	}
	if ids != "" {
		if _, err := docker(ctx, append([]string{"rm", "-fv"}, strings.Fields(ids)...)...); err != nil {
			return err
		}
	}
	if err := removeCaches(ctx); err != nil {
		return err
	}
	if found, err := docker(ctx, "network", "ls", "-q", "--filter", "name=^"+Network+"$"); err != nil {
		return err
	} else if found != "" {
		if err := removeNetwork(ctx); err != nil {
			return err
		}
	}
	return forwardRule(ctx, "-D", true)
}

// removeNetwork removes the lab's network, and before it the cages that a
// killed run left on it: nothing else has a place there.
func removeNetwork(ctx context.Context) error {
	ids, err := docker(ctx, "ps", "-aq", "--filter", "network="+Network)
	if err != nil {
		return err
	}
	for _, id := range strings.Fields(ids) {
		// It may be on its way out by itself.
		_, _ = docker(ctx, "rm", "-fv", id)
	}
	_, err = docker(ctx, "network", "rm", Network)
	return err
}

// removeCaches removes the state volumes that no cage has any more.
func removeCaches(ctx context.Context) error {
	names, err := docker(ctx, "volume", "ls", "-q", "--filter", "dangling=true", "--filter", "name=^"+Prefix+"-state-")
	if err != nil || names == "" {
		return err
	}
	_, err = docker(ctx, append([]string{"volume", "rm"}, strings.Fields(names)...)...)
	return err
}

func (l *Lab) certificates(context.Context) error {
	ca, err := pki.New()
	if err != nil {
		return err
	}
	if l.Pin, err = ca.Pin(); err != nil {
		return err
	}
	l.CAFile = filepath.Join(l.dir, "ca.pem")
	return os.WriteFile(l.CAFile, ca.PEM(), 0o644)
}

// network is internal: the engine gives it no way out. IPv6 is on, so that its
// absence from the uplink is the cage's doing.
func (l *Lab) network(ctx context.Context) error {
	_, err := docker(ctx, "network", "create", "--internal", "--ipv6", "--subnet", wire.Subnet, "--subnet", wire.Subnet6,
		"--label", label+"=1", "--opt", "com.docker.network.bridge.name="+bridge, Network)
	if err != nil {
		return err
	}
	l.later(func(ctx context.Context) error {
		_, err := docker(ctx, "network", "rm", Network)
		return errors.Join(forwardRule(ctx, "-D", true), err, removeCaches(ctx))
	})
	return forwardRule(ctx, "-I", false)
}

// forwardRule opens the way between two ports of the lab's own bridge. Where
// the kernel shows bridged frames to iptables, the engine's isolation of an
// internal network would else drop what a leaking cage sends to its gateway,
// and the sink would never see it. DOCKER-USER is the chain that engines leave
// to their users.
func forwardRule(ctx context.Context, action string, maybeGone bool) error {
	b, err := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-iptables")
	if err != nil || strings.TrimSpace(string(b)) == "0" {
		return nil
	}
	path, err := exec.LookPath("iptables")
	if err != nil {
		path = "/usr/sbin/iptables"
	}
	out, err := exec.CommandContext(ctx, path, "-w", action, "DOCKER-USER", "-i", bridge, "-o", bridge, "-j", "ACCEPT").CombinedOutput()
	if err != nil && !maybeGone {
		return fmt.Errorf("iptables %s DOCKER-USER: %w: %s", action, err, out)
	}
	return nil
}

// docker runs the engine's own command.
func docker(ctx context.Context, args ...string) (string, error) {
	return dockerIn(ctx, nil, args...)
}

func dockerIn(ctx context.Context, in io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Stdin = in
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(out.String()), nil
}
