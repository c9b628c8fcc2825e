package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// admin tries to change the network that it is in, and to leave it.
func (p *probe) admin([]string) error {
	_, all, err := net.ParseCIDR("0.0.0.0/0")
	if err != nil {
		return err
	}
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		name := l.Attrs().Name
		p.tell("route by "+name, netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: all, Priority: 7}))
		a := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 200, 0, 77), Mask: net.CIDRMask(24, 32)}}
		p.tell("address on "+name, netlink.AddrAdd(l, a))
		p.tell("link down "+name, netlink.LinkSetDown(l))
		p.tell("mac of "+name, netlink.LinkSetHardwareAddr(l, net.HardwareAddr{2, 0, 0, 0, 0, 9}))
		p.tell("qdisc on "+name, netlink.QdiscAdd(netlink.NewPrio(netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT})))
	}
	p.tell("dummy link", netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "labdummy"}}))
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "labveth"}, PeerName: "labpeer"}
	p.tell("veth", netlink.LinkAdd(veth))
	rule := netlink.NewRule()
	rule.Table, rule.Priority = 100, 1
	p.tell("rule", netlink.RuleAdd(rule))
	p.tell("nft flush", flushRules())
	p.sysctls()
	p.escape()
	return nil
}

func flushRules() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	c.FlushRuleset()
	return c.Flush()
}

// sysctls writes kernel settings, with the value that they have.
func (p *probe) sysctls() {
	for _, path := range []string{
		"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/all/rp_filter", "/proc/sys/net/ipv6/conf/all/forwarding",
		"/proc/sys/net/ipv4/ping_group_range", "/proc/sys/net/ipv4/conf/all/accept_local", "/proc/sys/kernel/core_pattern",
		"/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger", "/proc/sys/fs/binfmt_misc/register",
		"/sys/kernel/uevent_helper", "/sys/fs/cgroup/release_agent", "/proc/sys/kernel/hostname",
	} {
		b, err := os.ReadFile(path)
		if err != nil {
			b = []byte("0")
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.Write(b)
			f.Close()
		}
		p.tell("write "+path, err)
	}
}

// escape tries to get into other namespaces, or to make some.
func (p *probe) escape() {
	for _, ns := range []struct {
		name string
		flag int
	}{
		{"net", unix.CLONE_NEWNET}, {"user", unix.CLONE_NEWUSER}, {"mnt", unix.CLONE_NEWNS}, {"pid", unix.CLONE_NEWPID},
		{"uts", unix.CLONE_NEWUTS}, {"ipc", unix.CLONE_NEWIPC}, {"cgroup", unix.CLONE_NEWCGROUP}, {"user+net", unix.CLONE_NEWUSER | unix.CLONE_NEWNET},
	} {
		p.tell("unshare "+ns.name, unix.Unshare(ns.flag))
	}
	own := make(map[string]bool)
	spaces, _ := filepath.Glob("/proc/self/ns/*")
	for _, s := range spaces {
		if target, err := os.Readlink(s); err == nil {
			own[target] = true
		}
	}
	foreign := 0
	spaces, _ = filepath.Glob("/proc/[0-9]*/ns/*")
	for _, s := range spaces {
		if target, err := os.Readlink(s); err == nil && !own[target] && !strings.Contains(s, "children") {
			foreign++
			p.say("FOREIGN namespace %s %s", s, target)
		}
	}
	p.say("%d foreign namespaces visible", foreign)
	fd, err := unix.Open("/proc/1/ns/net", unix.O_RDONLY, 0)
	if err == nil {
		err = unix.Setns(fd, unix.CLONE_NEWNET)
		unix.Close(fd)
	}
	p.tell("setns /proc/1/ns/net", err)
	p.tell("chroot /proc/1/root", errors1(unix.Access("/proc/1/root/proc/1/root/run/buildcage", unix.F_OK)))
	for _, m := range []struct{ source, target, kind string }{
		{"proc", "/tmp", "proc"}, {"sysfs", "/tmp", "sysfs"}, {"tmpfs", "/tmp", "tmpfs"}, {"cgroup", "/tmp", "cgroup"}, {"cgroup2", "/tmp", "cgroup2"},
		{"overlay", "/tmp", "overlay"}, {"devpts", "/tmp", "devpts"}, {"mqueue", "/tmp", "mqueue"}, {"debugfs", "/tmp", "debugfs"}, {"bpf", "/tmp", "bpf"},
	} {
		p.tell("mount "+m.kind, unix.Mount(m.source, m.target, m.kind, 0, ""))
	}
	p.tell("bind over /etc/resolv.conf", unix.Mount("/etc/passwd", "/etc/resolv.conf", "", unix.MS_BIND, ""))
	p.tell("remount /proc/sys", unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND, ""))
	p.tell("umount /proc/sys", unix.Unmount("/proc/sys", unix.MNT_DETACH))
	p.tell("pivot_root", unix.PivotRoot("/tmp", "/tmp"))
}

func errors1(err error) error {
	if err != nil {
		return fmt.Errorf("access: %w", err)
	}
	return nil
}

// knownMounts are the mount points that every step has.
func knownMounts() []string {
	return []string{
		"/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup", "/etc/resolv.conf", "/etc/hosts",
		"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
		"/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
}

// binds compares the mounts with those that a step is known to have.
func (p *probe) binds(args []string) error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	known, n := append(knownMounts(), args...), 0
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		left, right, _ := strings.Cut(line, " - ")
		switch point := strings.Fields(left)[4]; {
		case strings.HasPrefix(point, "/sys/fs/cgroup/"), strings.HasPrefix(point, "/sys/devices/system/cpu/"), slices.Contains(known, point):
			n++
		default:
			p.say("UNKNOWN mount %s", strings.TrimSpace(line))
		}
		if root := f[3]; strings.HasPrefix(root, "/run") || strings.Contains(root, "docker.sock") || strings.Contains(root, "buildcage/") {
			p.say("FOREIGN mount of %s: %s", root, strings.TrimSpace(right))
		}
	}
	p.say("%d known mounts", n)
	return nil
}
