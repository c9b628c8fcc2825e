package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/buildcage/buildcage/test/e2e/lab/wire"
)

// Node is a machine of the lab.
type Node struct {
	name   string
	space  netns.NsHandle
	client *http.Client
}

func (l *Lab) nodes(ctx context.Context) (err error) {
	for _, n := range []struct {
		to                **Node
		role, ip4, ip6    string
		further, further6 string
	}{
		{&l.Names, "names", wire.Names, wire.Names6, "", ""},
		{&l.Origin, "origin", wire.Origin, wire.Origin6, wire.Detour + "/24", wire.Detour6 + "/64"},
		{&l.Sink, "sink", wire.Sink, wire.Sink6, wire.Trap + "/24", wire.Trap6 + "/64"},
	} {
		if *n.to, err = l.startNode(ctx, n.role, n.ip4, n.ip6); err != nil {
			return err
		}
		for _, a := range []string{n.further, n.further6} {
			if a == "" {
				continue
			}
			if err := inSpace((*n.to).space, func() error { return addAddress("eth0", a) }); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *Lab) startNode(ctx context.Context, role, ip4, ip6 string) (*Node, error) {
	name := "buildcage-lab-" + role
	id, err := docker(ctx, "run", "-d", "--rm", "--name", name, "--label", label+"=1", "--log-driver", "none",
		"--network", Network, "--ip", ip4, "--ip6", ip6, "--cap-add", "NET_ADMIN", l.image, role)
	if err != nil {
		return nil, err
	}
	l.later(func(ctx context.Context) error { _, err := docker(ctx, "rm", "-fv", id); return err })
	pid, err := pidOf(ctx, id)
	if err != nil {
		return nil, err
	}
	n := &Node{name: role}
	if n.space, err = netns.GetFromPid(pid); err != nil {
		return nil, fmt.Errorf("opening the network of %s: %w", role, err)
	}
	l.later(func(context.Context) error { return n.space.Close() })
	n.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return n.dial() },
	}}
	return n, n.ready(ctx)
}

func pidOf(ctx context.Context, id string) (int, error) {
	text, err := docker(ctx, "inspect", "--format", "{{.State.Pid}}", id)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(text)
	if err != nil || pid == 0 {
		return 0, fmt.Errorf("container %.12s does not run", id)
	}
	return pid, nil
}

func (n *Node) dial() (c net.Conn, err error) {
	err = inSpace(n.space, func() error {
		c, err = net.Dial("unix", wire.Control)
		return err
	})
	return c, err
}

// ready waits until the node answers.
func (n *Node) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		_, err := n.State(ctx)
		if err == nil {
			return n.Reset(ctx)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", n.name, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// State is what the node counted since its last reset.
func (n *Node) State(ctx context.Context) (wire.State, error) {
	var s wire.State
	body, err := n.call(ctx, http.MethodGet, "/state", "")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(body, &s)
}

// Reset forgets what was counted.
func (n *Node) Reset(ctx context.Context) error {
	_, err := n.call(ctx, http.MethodPost, "/reset", "")
	return err
}

// Script replaces the resolver's zone; see package zone.
func (n *Node) Script(ctx context.Context, text string) error {
	_, err := n.call(ctx, http.MethodPost, "/zone", text)
	return err
}

func (n *Node) call(ctx context.Context, method, path, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+n.name+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	res, err := n.client.Do(req)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(res.Body)
	err = errors.Join(err, res.Body.Close())
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", n.name, strings.TrimSpace(string(data)))
	}
	return data, err
}

// inSpace calls f on a thread in the network namespace. f starts nothing that
// needs it later.
func inSpace(space netns.NsHandle, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := netns.Set(space); err != nil {
			done <- fmt.Errorf("entering a network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

func addAddress(link, cidr string) error {
	found, err := netlink.LinkByName(link)
	if err != nil {
		return fmt.Errorf("finding %s: %w", link, err)
	}
	a, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	const noDAD = 2
	if a.IP.To4() == nil {
		a.Flags = noDAD
	}
	if err := netlink.AddrAdd(found, a); err != nil {
		return fmt.Errorf("adding %s to %s: %w", cidr, link, err)
	}
	return nil
}

// Waiting returns once a step waits at the origin (probe wait).
func (n *Node) Waiting(ctx context.Context) error {
	for {
		body, err := n.call(ctx, http.MethodGet, "/waiting", "")
		if err != nil || strings.TrimSpace(string(body)) != "0" {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// Release lets the waiting steps go on.
func (n *Node) Release(ctx context.Context) error {
	_, err := n.call(ctx, http.MethodPost, "/release", "")
	return err
}
