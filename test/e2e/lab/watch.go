package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/test/e2e/lab/wire"
)

// Cage is a cage container on the lab's network.
type Cage struct {
	ID  string
	Run string // the run's id
	PID int    // of its first process, on this machine
	// Attached is when traps and capture were in place. What ran before was not seen.
	Attached time.Time
	*Capture
	err error
}

// Err is why the cage could not be connected to the lab's traps.
func (c *Cage) Err() error { return c.err }

// watch follows the engine's events: each cage that starts on the lab's
// network gets the sink as default gateway and a capture on its uplink, long
// before its BuildKit is up.
func (l *Lab) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	cmd := exec.CommandContext(ctx, "docker", "events", "--since", strconv.FormatInt(time.Now().Add(-time.Second).Unix(), 10),
		"--filter", "type=container", "--filter", "event=start", "--filter", "label="+contract.LabelRun, "--format", "{{.ID}}")
	out, err := cmd.StdoutPipe()
	if err != nil {
		cancel()
		return err
	}
	if err := cmd.Start(); err != nil {
		cancel()
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			l.connect(ctx, strings.TrimSpace(lines.Text()))
		}
	}()
	l.later(func(context.Context) error {
		cancel()
		<-done
		_ = cmd.Wait() // it was killed
		return nil
	})
	return nil
}

func (l *Lab) connect(ctx context.Context, id string) {
	text, err := docker(ctx, "inspect", "--format",
		`{{.State.Pid}} {{index .Config.Labels "`+contract.LabelRun+`"}} {{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}`, id)
	fields := strings.Fields(text)
	if err != nil || len(fields) < 3 || fields[2] != Network {
		return // gone again, or none of ours
	}
	c := &Cage{ID: id, Run: fields[1]}
	c.PID, _ = strconv.Atoi(fields[0])
	c.Capture, c.err = attach(c.PID)
	c.Attached = time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	key := c.Run
	if l.cages[key] != nil { // it was restarted
		if errors.Is(c.err, os.ErrNotExist) {
			return // and ended at once
		}
		key += "/" + fields[0]
	}
	l.cages[key] = c
	close(l.waiting)
	l.waiting = make(chan struct{})
}

// Cage waits for the cage of a run.
func (l *Lab) Cage(ctx context.Context, match func(*Cage) bool) (*Cage, error) {
	for {
		l.mu.Lock()
		for _, c := range l.cages {
			if match(c) {
				l.mu.Unlock()
				return c, c.err
			}
		}
		added := l.waiting
		l.mu.Unlock()
		select {
		case <-added:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for a cage: %w", ctx.Err())
		}
	}
}

// Forget closes the captures of all cages so far.
func (l *Lab) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for run, c := range l.cages {
		if c.Capture != nil {
			c.Close()
		}
		delete(l.cages, run)
	}
}

// Cages are all cages since Forget.
func (l *Lab) Cages() []*Cage {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []*Cage
	for _, c := range l.cages {
		list = append(list, c)
	}
	return list
}

// Left lists cages that outlived their run.
func (l *Lab) Left(ctx context.Context) (string, error) {
	return docker(ctx, "ps", "-a", "--filter", "label="+contract.LabelRun, "--filter", "network="+Network, "--format", "{{.Names}} {{.Status}}")
}

// attach starts a capture in the namespace of a process and leads everything
// outside of the lab's subnet to the sink, except the origin's public address.
func attach(pid int) (*Capture, error) {
	space, err := netns.GetFromPid(pid)
	if err != nil {
		return nil, fmt.Errorf("opening the cage's network: %w", err)
	}
	var c *Capture
	err = inSpace(space, func() error {
		link, err := uplink()
		if err != nil {
			return err
		}
		if c, err = newCapture(link.Attrs().Index, link.Attrs().Name); err != nil {
			return err
		}
		return routes(link)
	})
	return c, errors.Join(err, space.Close())
}

// uplinkPatience is for a list that has no such interface: the cage makes links
// at the same time, and lists are interrupted by that.
const uplinkPatience = 3 * time.Second

// uplink is the interface with an address in the lab's subnet.
func uplink() (link netlink.Link, err error) {
	late := time.After(uplinkPatience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if link, err = findUplink(); err == nil {
			return link, nil
		}
		select {
		case <-tick.C:
		case <-late:
			return nil, err
		}
	}
}

func findUplink() (netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	_, subnet, err := net.ParseCIDR(wire.Subnet)
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if subnet.Contains(a.IP) {
				return l, nil
			}
		}
	}
	return nil, errors.New("no interface of the cage is in the lab's subnet")
}

func routes(link netlink.Link) error {
	index := link.Attrs().Index
	add := func(dst, gw string, bits int) error {
		r := &netlink.Route{LinkIndex: index, Gw: net.ParseIP(gw)}
		if dst != "" {
			r.Dst = &net.IPNet{IP: net.ParseIP(dst), Mask: net.CIDRMask(bits, bits)}
			if bits == 32 {
				r.Dst.IP = r.Dst.IP.To4()
			}
		}
		if err := netlink.RouteReplace(r); err != nil {
			return fmt.Errorf("routing %q via %s: %w", dst, gw, err)
		}
		return nil
	}
	return errors.Join(
		add("", wire.Trap, 0), add(wire.OriginPublic, wire.Detour, 32),
		sixth(add("", wire.Trap6, 0)), sixth(add(wire.OriginPublic6, wire.Detour6, 128)))
}

// sixth forgives the lack of IPv6, on the machine or in the calling thread's
// network: without it nothing leaks there.
func sixth(err error) error {
	if off, readErr := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6"); readErr == nil && strings.TrimSpace(string(off)) == "1" {
		return nil
	}
	if _, statErr := os.Stat(filepath.Join("/proc", "net", "if_inet6")); statErr != nil {
		return nil
	}
	return err
}
