package process

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxPinned bounds the open directories; processes beyond are not looked at.
const maxPinned = 4096

// table is the processes that /proc shows, each pinned by an open directory.
// It belongs to one pass at a time.
type table struct {
	root  int    // /proc
	own   uint64 // the network namespace of the cage
	self  int    // the cage's first process: its threads visit namespaces, but it is in no step
	pids  []listed
	procs map[int]*proc
	round int
	full  bool // the last refresh left processes out
	fine  bool // processor time is measured, not counted in ticks
	buf   []byte
	link  [64]byte
}

type listed struct {
	pid   int
	inode uint64
}

// proc is one process. Its directory stays that of this process when the id
// is used again: everything in it fails then.
type proc struct {
	pid   int
	inode uint64 // of its directory in /proc
	fds   int    // its fd directory, open
	net   uint64 // its network namespace
	round int    // of the pass that listed it last
	read  *reading
	held  held
}

func openTable(path string) (*table, error) {
	root, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	t := &table{root: root, self: os.Getpid(), procs: make(map[int]*proc), buf: make([]byte, 32<<10), fine: fineClock()}
	if t.own, err = t.namespace(root, "thread-self/ns/net"); err != nil {
		unix.Close(root)
		return nil, fmt.Errorf("reading the cage's network namespace: %w", err)
	}
	return t, nil
}

func (t *table) close() {
	for _, p := range t.procs {
		unix.Close(p.fds)
	}
	clear(t.procs)
	unix.Close(t.root)
}

// refresh takes notice of the processes that there are now.
func (t *table) refresh() error {
	t.pids, t.full = t.pids[:0], false
	t.round++
	err := t.entries(t.root, func(inode uint64, name []byte) bool {
		if pid, ok := number(name); ok && int(pid) != t.self {
			t.pids = append(t.pids, listed{int(pid), inode})
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("listing processes: %w", err)
	}
	for _, l := range t.pids {
		p := t.procs[l.pid]
		if p != nil && p.inode != l.inode {
			t.drop(p)
			p = nil
		}
		if p == nil {
			if p = t.pin(l.pid); p == nil {
				continue
			}
		}
		p.round = t.round
		if p.net == t.own { // a process on its way into a step joins the namespace before it executes
			p.net, _ = t.namespace(p.fds, "../ns/net")
		}
	}
	for _, p := range t.procs {
		if p.round != t.round {
			t.drop(p)
		}
	}
	return nil
}

// pin opens a process, nil if that is not possible (any more).
func (t *table) pin(pid int) *proc {
	if len(t.procs) >= maxPinned {
		t.full = true
		return nil
	}
	fds, err := unix.Openat(t.root, strconv.Itoa(pid)+"/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.full = t.full || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
		return nil
	}
	p := &proc{pid: pid, fds: fds, round: t.round}
	var st unix.Stat_t
	if unix.Fstatat(fds, "..", &st, 0) == nil {
		p.inode = st.Ino
		if p.net, err = t.namespace(fds, "../ns/net"); err == nil {
			t.procs[pid] = p
			return p
		}
	}
	unix.Close(fds)
	return nil
}

func (t *table) drop(p *proc) {
	unix.Close(p.fds)
	delete(t.procs, p.pid)
}

// member returns a process of the namespace net by its id. It is nil for one
// that is somewhere else, and then known, or that can't be read.
func (t *table) member(pid int, net uint64) (p *proc, known bool) {
	if pid == 0 || pid == t.self {
		return nil, true
	}
	if p = t.procs[pid]; p != nil && !p.alive() {
		t.drop(p)
		p = nil
	}
	if p == nil {
		p = t.pin(pid)
	}
	switch {
	case p == nil:
		return nil, false
	case p.net != net:
		return nil, true
	}
	return p, true
}

// members calls f for every process of the namespaces, the last ones found
// first, then the youngest ids: a new connection is often that of a new process.
func (t *table) members(spaces map[uint64]*space, f func(*proc) bool) {
	done := make(map[int]bool, len(spaces))
	for _, sp := range spaces {
		if p := t.procs[sp.last]; p != nil && p.net == sp.net {
			if done[p.pid] = true; !f(p) {
				return
			}
		}
	}
	for _, l := range slices.Backward(t.pids) {
		if p := t.procs[l.pid]; p != nil && spaces[p.net] != nil && !done[l.pid] && !f(p) {
			return
		}
	}
}

func (t *table) namespace(dir int, path string) (uint64, error) {
	n, err := unix.Readlinkat(dir, path, t.link[:])
	if err != nil {
		return 0, err
	}
	inode, ok := between(t.link[:n], "net:[")
	if !ok {
		return 0, fmt.Errorf("%q is no namespace", t.link[:n])
	}
	return inode, nil
}

// between reads the number in a link such as socket:[123].
func between(b []byte, prefix string) (uint64, bool) {
	if len(b) < len(prefix)+2 || string(b[:len(prefix)]) != prefix || b[len(b)-1] != ']' {
		return 0, false
	}
	b[len(b)-1] = 0
	return number(b[len(prefix):])
}

// number reads a decimal number that ends in a zero byte.
func number(b []byte) (n uint64, ok bool) {
	for i, c := range b {
		switch {
		case c == 0:
			return n, i > 0
		case c < '0' || c > '9' || n > 1<<60/10:
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return 0, false
}

const direntName = 19 // offset of the name in struct linux_dirent64

// entries calls f for each entry of an open directory, from the start. The
// name ends in a zero byte and is valid during the call.
func (t *table) entries(dir int, f func(inode uint64, name []byte) bool) error {
	if _, err := unix.Seek(dir, 0, unix.SEEK_SET); err != nil {
		return err
	}
	for {
		n, err := unix.Getdents(dir, t.buf)
		if err != nil || n <= 0 {
			return err
		}
		for b := t.buf[:n]; len(b) > direntName; {
			size := int(binary.NativeEndian.Uint16(b[16:]))
			if size <= direntName || size > len(b) {
				return errors.New("directory entry of an impossible size")
			}
			name := b[direntName:size]
			if zero := bytes.IndexByte(name, 0); zero > 0 && !f(binary.NativeEndian.Uint64(b), name[:zero+1]) {
				return nil
			}
			b = b[size:]
		}
	}
}
