package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tell prints what became of an attempt, in words that a case can match.
func (p *probe) tell(what string, err error) {
	if err != nil {
		p.say("%s: refused: %v", what, err)
		return
	}
	p.say("%s: DONE", what)
}

// unix connects to sockets by path, or by @NAME to abstract ones.
func (p *probe) unix(args []string) error {
	rest, err := parse(p.flags("unix"), args, 1)
	if err != nil {
		return err
	}
	for _, path := range rest {
		c, err := net.DialTimeout("unix", path, p.timeout)
		p.tell("unix "+path, err)
		if err == nil {
			c.Close()
		}
	}
	return nil
}

// sockets searches the file system for sockets and connects to each.
func (p *probe) sockets([]string) error {
	found := 0
	err := filepath.WalkDir("/", func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil //nolint:nilerr // what can't be read is not searched
		case d.IsDir() && (path == "/proc" || path == "/sys"):
			return filepath.SkipDir
		case d.Type()&os.ModeSocket != 0:
			found++
			c, err := net.DialTimeout("unix", path, p.timeout)
			p.tell("unix "+path, err)
			if err == nil {
				c.Close()
			}
		}
		return nil
	})
	p.say("%d sockets in the file system", found)
	return err
}

// kill tries the processes that it sees, and those that it does not.
func (p *probe) kill([]string) error {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	own := map[int]bool{os.Getpid(): true}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return err
		}
		own[pid] = true
		name, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		p.say("process %d %q", pid, strings.ReplaceAll(string(name), "\x00", " "))
	}
	counts := make(map[string]int)
	for pid := 2; pid < 70000; pid++ {
		if _, err := os.Stat("/proc/self/task/" + strconv.Itoa(pid)); own[pid] || err == nil {
			continue // a thread of ours
		}
		counts["kill "+reason(unix.Kill(pid, unix.SIGKILL))]++
		fd, err := unix.PidfdOpen(pid, 0)
		counts["pidfd "+reason(err)]++
		if err == nil {
			unix.Close(fd)
		}
		counts["ptrace "+reason(unix.PtraceAttach(pid))]++
		local, remote := make([]byte, 8), []unix.RemoteIovec{{Base: 0x10000, Len: 8}}
		_, err = unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &local[0], Len: 8}}, remote, 0)
		counts["readv "+reason(err)]++
	}
	p.say("%d processes visible, others: %v", len(dirs), counts)
	for _, pid := range []int{0, -1} {
		p.say("ptrace %d: %s", pid, reason(unix.PtraceAttach(pid)))
	}
	return nil
}

func reason(err error) string {
	var no unix.Errno
	if errors.As(err, &no) {
		return unix.ErrnoName(no)
	}
	if err != nil {
		return err.Error()
	}
	return "DONE"
}

// devices makes device nodes and opens them.
func (p *probe) devices([]string) error {
	for _, d := range []struct {
		name         string
		kind         uint32
		major, minor uint32
	}{
		{"mem", unix.S_IFCHR, 1, 1}, {"port", unix.S_IFCHR, 1, 4}, {"kmsg", unix.S_IFCHR, 1, 11}, {"tun", unix.S_IFCHR, 10, 200},
		{"fuse", unix.S_IFCHR, 10, 229}, {"kvm", unix.S_IFCHR, 10, 232}, {"loop-control", unix.S_IFCHR, 10, 237}, {"vhost-vsock", unix.S_IFCHR, 10, 241},
		{"sda", unix.S_IFBLK, 8, 0}, {"vda", unix.S_IFBLK, 254, 0}, {"loop0", unix.S_IFBLK, 7, 0}, {"nvme", unix.S_IFBLK, 259, 0}, {"dm", unix.S_IFBLK, 253, 0},
		{"tty1", unix.S_IFCHR, 4, 1}, {"snapshot", unix.S_IFCHR, 10, 231}, {"cpu0msr", unix.S_IFCHR, 202, 0}, {"nvram", unix.S_IFCHR, 10, 144},
	} {
		path := filepath.Join("/tmp", "device-"+d.name)
		if err := unix.Mknod(path, d.kind|0o600, int(unix.Mkdev(d.major, d.minor))); err != nil { //nolint:gosec // small numbers
			p.say("%s: refused: mknod: %v", d.name, err)
			continue
		}
		for _, flag := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR} {
			fd, err := unix.Open(path, flag|unix.O_NONBLOCK, 0)
			p.tell(fmt.Sprintf("%s: open %d", d.name, flag), err)
			if err == nil {
				if d.name == "tun" {
					p.tell("tun: make an interface", tunnel(fd))
				}
				unix.Close(fd)
			}
		}
		_ = os.Remove(path)
	}
	for _, path := range []string{"/dev/net/tun", "/dev/kvm", "/dev/fuse", "/dev/mem", "/dev/kmsg", "/dev/vsock", "/dev/sda"} {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		p.tell("present "+path, err)
		if err == nil {
			f.Close()
		}
	}
	return nil
}

// tunnel makes an interface out of an open tun device.
func tunnel(fd int) error {
	req, err := unix.NewIfreq("labtun")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	return unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
}

// fds lists the files that this process was born with; those that Go's runtime
// opens to learn of its share of the processors are not among them.
func (p *probe) fds([]string) error {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range list {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			return err
		}
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		switch {
		case err != nil: // the one of ReadDir
		case n <= 2 || strings.HasPrefix(target, "anon_inode:") || strings.HasPrefix(target, "/sys/fs/cgroup/cpu/cpu.cfs_") || strings.HasSuffix(target, "/cpu.max"):
			p.say("fd %d %s", n, target)
		default:
			p.say("LEAKED fd %d %s", n, target)
		}
	}
	return nil
}

// listen takes TCP and UDP on a port, and hands on what arrives to --report,
// so that an oracle sees what came here. It ends when --until exists.
func (p *probe) listen(args []string) error {
	f := p.flags("listen")
	report := f.String("report", "", "HOST:PORT that gets what arrives")
	until := f.String("until", "", "end when this file exists")
	ready := f.String("ready", "", "make this file when listening, with our addresses in it")
	rest, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	got := func(from net.Addr, b []byte) {
		p.say("ARRIVED from %v: %s", from, brief(b))
		if *report == "" {
			return
		}
		if c, err := p.dial(*report); err == nil {
			_, _ = c.Write(append([]byte("\x00arrived "), b...))
			c.Close()
		}
	}
	for _, port := range rest {
		if err := listenOn(":"+port, got); err != nil {
			return err
		}
	}
	if *ready != "" {
		if err := os.WriteFile(*ready, []byte(strings.Join(addresses(), "\n")+"\n"), 0o644); err != nil {
			return err
		}
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(*until); err == nil {
			break
		}
	}
	return nil
}

func listenOn(addr string, got func(net.Addr, []byte)) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	u, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			b, _ := io.ReadAll(io.LimitReader(c, 4096))
			got(c.RemoteAddr(), b)
			c.Close()
		}
	}()
	go func() {
		for {
			b := make([]byte, 4096)
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			got(from, b[:n])
		}
	}()
	return nil
}

// addresses are those of our interfaces, without loopback.
func addresses() []string {
	var list []string
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() {
			list = append(list, n.IP.String())
		}
	}
	return list
}
