package process

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/event"
)

const (
	maxCmdline = 2048 // bytes of a command line that are read
	maxDepth   = 64   // of the ancestors that are looked at
)

// stat is what changes without the process executing something new.
type stat struct {
	ppid, session int
	start         uint64 // since boot, in clock ticks
}

// reading is what a process executes. It is kept while that does not change.
type reading struct {
	exe     string
	cmdline string
	args    []string // redacted and escaped
	label   string
}

func (p *proc) alive() bool {
	var st unix.Stat_t
	return unix.Fstatat(p.fds, "../stat", &st, 0) == nil
}

// file reads at most len(b) bytes of a file of the process.
func (p *proc) file(name string, b []byte) ([]byte, bool) {
	fd, err := unix.Openat(p.fds, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false
	}
	defer unix.Close(fd)
	n := 0
	for n < len(b) {
		m, err := unix.Read(fd, b[n:])
		if err != nil {
			return nil, false
		}
		if m == 0 {
			break
		}
		n += m
	}
	return b[:n], true
}

// stat reads parent, session and start time; see proc_pid_stat(5).
func (t *table) stat(p *proc) (stat, bool) {
	b, ok := p.file("../stat", t.buf[:1024])
	if !ok {
		return stat{}, false
	}
	b = b[bytes.LastIndexByte(b, ')')+1:] // the name before it may hold anything
	fields := strings.Fields(string(b))
	if len(fields) < 20 {
		return stat{}, false
	}
	var s stat
	var errs [3]error
	s.ppid, errs[0] = strconv.Atoi(fields[1])
	s.session, errs[1] = strconv.Atoi(fields[3])
	s.start, errs[2] = strconv.ParseUint(fields[19], 10, 64)
	return s, errs == [3]error{}
}

// execution reads what p executes.
func (t *table) execution(p *proc) (*reading, bool) {
	n, err := unix.Readlinkat(p.fds, "../exe", t.buf[:4096])
	if err != nil {
		return nil, false
	}
	exe := string(t.buf[:n])
	cmdline, ok := p.file("../cmdline", t.buf[:maxCmdline])
	if !ok || len(cmdline) == 0 { // on its way from one program to another, or out
		return nil, false
	}
	if r := p.read; r != nil && r.exe == exe && r.cmdline == string(cmdline) {
		return r, true
	}
	p.read = newReading(exe, string(cmdline))
	return p.read, true
}

func newReading(exe, cmdline string) *reading {
	r := &reading{exe: exe, cmdline: cmdline}
	words := strings.Split(strings.TrimRight(cmdline, "\x00"), "\x00")
	if len(cmdline) == maxCmdline { // the last one may be cut in two, and a half of a secret looks like none
		words[len(words)-1] = cutMark
	}
	words = Redact(words)
	r.args = bound(words)
	r.label = event.EscapeMax(label(exe, words), maxLabel)
	return r
}

// inner is the process id that the step itself sees.
func (t *table) inner(p *proc) int {
	b, ok := p.file("../status", t.buf[:4096])
	if !ok {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if ids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			fields := strings.Fields(ids)
			// The first id is the cage's, the second the step's, further ones
			// belong to containers that the step made itself.
			pid, _ := strconv.Atoi(fields[min(1, len(fields)-1)])
			return pid
		}
	}
	return 0
}

// inheritable says that the descriptor would have survived an execution.
func (t *table) inheritable(h holder) bool {
	b, ok := h.file("../fdinfo/"+h.fd, t.buf[:1024])
	if !ok {
		return true
	}
	for line := range strings.Lines(string(b)) {
		if flags, ok := strings.CutPrefix(line, "flags:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(flags), 8, 64)
			return err != nil || n&unix.O_CLOEXEC == 0
		}
	}
	return true
}
