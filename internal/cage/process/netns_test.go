package process_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buildcage/buildcage/internal/cage/lab"
	"github.com/buildcage/buildcage/internal/cage/process"
	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/event"
)

// stage is a step with a first process in namespaces of its own, and the
// proxy's end of its connections.
type stage struct {
	testing.TB
	finder   *process.Finder
	step     *step.Step
	listener *net.TCPListener
	orders   io.Writer
	output   *bufio.Scanner
}

func newStage(t *testing.T, n byte) *stage {
	t.Helper()
	space := lab.NewStep(t, n)
	s := &stage{TB: t, step: &step.Step{}}
	s.step.ID = fmt.Sprintf("s%d", n)
	cmd := exec.Command("/proc/self/exe", "init")
	cmd.Args[0] = "role"
	cmd.Env = append(os.Environ(), roleEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Setsid: true}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	s.orders, s.output = stdin, bufio.NewScanner(stdout)
	space.Do(t, cmd.Start)
	t.Cleanup(func() {
		cmd.Process.Kill() // and with it all others
		cmd.Wait()
	})
	s.expect("ready")
	s.step.NetNS = fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
	s.finder, err = process.New(slog.New(slog.NewTextHandler(t.Output(), nil)))
	must(t, err)
	t.Cleanup(s.finder.Close)
	s.finder.Add(s.step)
	s.listener, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("198.19.0.1:0")))
	must(t, err)
	t.Cleanup(func() { s.listener.Close() })
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *stage) expect(line string) {
	s.Helper()
	if !s.output.Scan() || s.output.Text() != line {
		s.Fatalf("the step says %q, want %q", s.output.Text(), line)
	}
}

// start lets the first process start another.
func (s *stage) start(role, mark string) {
	s.Helper()
	_, err := fmt.Fprintln(s.orders, role, s.listener.Addr(), mark)
	must(s, err)
}

// found is one connection, what it says about itself and what the finder says.
type found struct {
	truth
	*event.Process
	took time.Duration
	err  error // the client left before it said anything
}

// accept is what the proxy does.
func (s *stage) accept() found {
	s.Helper()
	s.listener.SetDeadline(time.Now().Add(20 * time.Second))
	conn, err := s.listener.AcceptTCP()
	must(s, err)
	return s.look(conn)
}

func (s *stage) find(st *step.Step, conn *net.TCPConn, server netip.AddrPort) func() *event.Process {
	s.Helper()
	var find func() *event.Process
	raw, err := conn.SyscallConn()
	must(s, err)
	must(s, raw.Control(func(fd uintptr) {
		find, _ = s.finder.Find(st, int(fd), conn.RemoteAddr().(*net.TCPAddr).AddrPort(), server)
	}))
	return find
}

func (s *stage) look(conn *net.TCPConn) (f found) {
	defer conn.Close()
	begin := time.Now()
	f.Process = s.find(s.step, conn, conn.LocalAddr().(*net.TCPAddr).AddrPort())()
	f.took = time.Since(begin)
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	f.truth, f.err = readTruth(conn)
	return f
}

// check allows the right process, or none. A process that is named with a note
// must still be one that had to do with it.
func (f found) check(t testing.TB, right ...string) {
	t.Helper()
	switch {
	case f.Process == nil:
		t.Error("no answer")
	case f.err != nil:
		t.Errorf("what connected did not say who it was: %v", f.err)
	case f.PID == 0:
		if f.Note == "" || f.Exe != "" || f.Args != nil {
			t.Errorf("nobody, but %+v", f.Process)
		}
	case f.Gone:
		t.Errorf("gone, but %+v", f.Process)
	case !slices.Contains(right, f.Args[len(f.Args)-1]):
		t.Errorf("process %q for %q: wrong", f.Args, f.mark)
	case f.Note == "" && f.PID != f.pid:
		t.Errorf("process id %d for %+v, want %d", f.PID, f.Process, f.pid)
	}
}

// named also wants a definite answer.
func (f found) named(t testing.TB) bool {
	t.Helper()
	if f.Process == nil || f.PID == 0 || f.Gone {
		t.Errorf("%s is not named: %+v", f.mark, f.Process)
		return false
	}
	return true
}

func TestPlain(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	s := newStage(t, 2)
	s.start("stay", "plain")
	f := s.accept()
	f.check(t, "plain")
	if !f.named(t) || f.Note != "" {
		t.Fatalf("%+v", f.Process)
	}
	exe, _ := os.Readlink("/proc/self/exe")
	if f.Exe != exe || f.Args[0] != "role" || len(f.Chain) != 2 || !strings.HasPrefix(f.Chain[0], "role init") || !strings.HasPrefix(f.Chain[1], "role stay") {
		t.Errorf("%+v", f.Process)
	}
	s.finder.Forget(s.step)
	s.start("stay", "late")
	if f := s.accept(); f.Note != process.NoteEnded || f.PID != 0 {
		t.Errorf("after the end of the step: %+v", f.Process)
	}
}

// Whatever a step's processes do, the answer is right or there is none.
func TestNeverWrong(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	s := newStage(t, 2)
	const each = 12
	for _, tc := range []struct {
		role  string
		heirs bool // another program than the one that connected may be named
		named bool // and somebody must be
	}{
		{role: "stay", named: true},
		{role: "fork", named: true},
		{role: "daemon", named: true},
		{role: "thread", named: true},
		{role: "leave"},
		{role: "flash"},
		{role: "exec", heirs: true, named: true},
		{role: "bequeath"},
		{role: "share", named: true},
		{role: "handkeep"},
		{role: "hand"},
	} {
		t.Run(tc.role, func(t *testing.T) {
			s.TB = t
			for i := range each {
				mark := fmt.Sprintf("%s-%d", tc.role, i)
				s.start(tc.role, mark)
				f := s.accept()
				right := []string{mark}
				switch {
				case f.Process == nil:
				case tc.heirs || f.Note != "":
					right = append(right, "heir-of-"+mark)
				case tc.role == "hand": // the receiver talks, and the sender is gone
					f.pid = f.PID
				}
				f.check(t, right...)
				if tc.named {
					f.named(t)
				}
				if tc.role == "daemon" && f.PID != 0 && len(f.Chain) == 2 && f.Chain[0] != "..." && !strings.HasSuffix(f.Chain[len(f.Chain)-1], " (reparented)") {
					t.Errorf("chain %q of a daemon", f.Chain)
				}
			}
		})
	}
	s.TB = t
}

func TestParallel(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	s := newStage(t, 2)
	const clients = 64
	for i := range clients {
		s.start("stay", fmt.Sprintf("client-%d", i))
	}
	// All of them are looked up at once: hold the connections back until the last is there.
	var conns []*net.TCPConn
	for range clients {
		s.listener.SetDeadline(time.Now().Add(20 * time.Second))
		conn, err := s.listener.AcceptTCP()
		must(t, err)
		conns = append(conns, conn)
	}
	results := make(chan found, clients)
	for _, conn := range conns {
		go func() { results <- s.look(conn) }()
	}
	seen := make(map[string]bool)
	named := 0
	for range clients {
		f := <-results
		f.check(t, f.mark)
		if f.Process != nil && f.PID != 0 {
			named++
		} else {
			t.Logf("%v: %+v", f.took, f.Process)
		}
		seen[f.mark] = true
	}
	if len(seen) != clients || named < clients/2 {
		t.Errorf("%d clients, %d of them named", len(seen), named)
	}
}

// A socket that is held by nobody whom /proc shows is nobody's.
func TestUnknown(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	s := newStage(t, 2)
	s.start("stay", "elsewhere")
	a, err := s.listener.AcceptTCP()
	must(t, err)
	defer a.Close()
	b := netip.MustParseAddrPort("198.19.0.1:1")
	if p := s.find(s.step, a, b)(); p == nil || !p.Gone || p.Note != process.NoteClosed {
		t.Errorf("no such socket: %+v", p)
	}
	if s.find(&step.Step{}, a, b) != nil {
		t.Error("somebody is looked for without a network")
	}
	other := &step.Step{NetNS: "/nonexistent"}
	s.finder.Add(other)
	if p := s.find(other, a, b)(); p == nil || p.PID != 0 || p.Note != process.NoteBlind {
		t.Errorf("no such namespace: %+v", p)
	}
}

// crowd fills the step with processes.
func (s *stage) crowd(n int) {
	s.Helper()
	for i := range n {
		s.start("idle", fmt.Sprintf("idle-%d", i))
	}
	for range n {
		s.expect("idle")
	}
}

// The budget is one millisecond; the bound is for the race detector. The best of
// a few rounds counts: other work on the machine is not the finder's.
func TestCrowd(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	s := newStage(t, 2)
	s.crowd(200)
	for round := range 5 {
		var took []time.Duration
		for i := range 30 {
			mark := fmt.Sprintf("client-%d-%d", round, i)
			s.start("stay", mark)
			f := s.accept()
			f.check(t, mark)
			if f.Process != nil && f.PID != 0 {
				took = append(took, f.took)
			} else {
				t.Logf("%v: %+v", f.took, f.Process)
			}
		}
		slices.Sort(took)
		if len(took) >= 20 && took[len(took)/2] <= 25*time.Millisecond {
			t.Logf("%d of 30 are named, median %v, longest %v", len(took), took[len(took)/2], took[len(took)-1])
			return
		}
		t.Logf("only %d of 30 are named, after %v", len(took), took)
	}
	t.Error("too slow, or too few are named, in every round")
}

// Descriptors are given back, whatever becomes of steps and processes.
func TestNothingStaysOpen(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	open := func() int {
		files, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(files)
	}
	s := newStage(t, 2)
	for i := range 20 {
		s.start("leave", fmt.Sprint(i))
		s.accept()
	}
	s.finder.Forget(s.step)
	s.finder.Close()
	before := open()
	finder, err := process.New(slog.New(slog.DiscardHandler))
	must(t, err)
	s.finder = finder
	s.finder.Add(s.step)
	for i := range 20 {
		s.start("stay", fmt.Sprint(i))
		s.accept()
	}
	if during := open(); during <= before {
		t.Errorf("%d files before, %d during: nothing was pinned", before, during)
	}
	s.finder.Forget(s.step)
	s.finder.Close()
	if after := open(); after != before {
		t.Errorf("%d files before, %d after", before, after)
	}
	s.start("stay", "after")
	if f := s.accept(); f.Process == nil || f.PID != 0 {
		t.Errorf("after the end: %+v", f.Process)
	}
}
