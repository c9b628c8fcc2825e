package process_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// roleEnv makes the test binary play a process of a step. Its arguments are
// the role, the address to connect to and a text of its own.
const roleEnv = "BUILDCAGE_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) != "" {
		os.Exit(play(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// markSize is the length of the text that each connection begins with; the
// process id of who connected follows.
const markSize = 24

// plan is what a role does, with everything made before the first fork: in
// a forked copy of a Go program nothing works but system calls.
type plan struct {
	addr    unix.RawSockaddrInet4
	hello   [markSize + 4]byte
	path    *byte
	argv    []*byte
	envv    []*byte
	cloexec uintptr
}

func newPlan(args []string) *plan {
	p := &plan{}
	to := netip.MustParseAddrPort(args[1])
	p.addr = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.Addr().As4()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&p.addr.Port))[:], to.Port())
	copy(p.hello[:markSize], args[2])
	p.path, _ = unix.BytePtrFromString("/proc/self/exe")
	for _, a := range []string{"role", "hold", args[1], "heir-of-" + args[2]} {
		b, _ := unix.BytePtrFromString(a)
		p.argv = append(p.argv, b)
	}
	env, _ := unix.BytePtrFromString(roleEnv + "=1")
	p.argv, p.envv = append(p.argv, nil), []*byte{env, nil}
	return p
}

//go:norace
func fork() uintptr {
	pid, _, _ := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	return pid
}

//go:norace
func quit() { syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0) }

// pause waits for a signal: the test kills who is left.
//
//go:norace
func pause() {
	for {
		syscall.RawSyscall6(syscall.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
	}
}

// connect opens the connection and says who did.
//
//go:norace
func (p *plan) connect() uintptr {
	fd, _, _ := syscall.RawSyscall(syscall.SYS_SOCKET, syscall.AF_INET, syscall.SOCK_STREAM|p.cloexec, 0)
	_, _, errno := syscall.RawSyscall(syscall.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&p.addr)), unsafe.Sizeof(p.addr))
	if errno != 0 {
		quit()
	}
	pid, _, _ := syscall.RawSyscall(syscall.SYS_GETPID, 0, 0, 0)
	p.hello[markSize] = byte(pid)
	p.hello[markSize+1] = byte(pid >> 8)
	p.hello[markSize+2] = byte(pid >> 16)
	syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&p.hello)), unsafe.Sizeof(p.hello))
	return fd
}

//go:norace
func (p *plan) exec() {
	syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(p.path)), uintptr(unsafe.Pointer(&p.argv[0])), uintptr(unsafe.Pointer(&p.envv[0])))
	quit()
}

// awaitEnd returns when the other side has closed the connection.
//
//go:norace
func awaitEnd(fd uintptr) {
	var b [1]byte
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&b)), 1)
		if n == 0 || errno != 0 && errno != syscall.EINTR {
			return
		}
	}
}

// idle waits as a program does that has nothing to do: it uses no time.
func idle() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	<-signals
}

func play(args []string) int {
	switch args[0] {
	case "init":
		return playInit()
	case "hold":
		idle()
	case "scm":
		return playReceiver()
	case "idle":
		files := make([]*os.File, 6)
		for i := range files {
			files[i], _ = os.Open("/dev/null")
		}
		fmt.Println("idle")
		idle()
		runtime.KeepAlive(files)
	}
	newPlan(args).play(args)
	return 0
}

//go:norace
func (p *plan) play(args []string) {
	switch args[0] {
	case "stay": // until the proxy hangs up
		p.cloexec = syscall.SOCK_CLOEXEC
		awaitEnd(p.connect())
	case "leave":
		p.connect()
	case "fork": // the child connects
		if fork() == 0 {
			awaitEnd(p.connect())
			quit()
		}
	case "daemon": // so does a grandchild with a session of its own
		if fork() == 0 {
			syscall.RawSyscall(syscall.SYS_SETSID, 0, 0, 0)
			if fork() == 0 {
				awaitEnd(p.connect())
			}
			quit()
		}
	case "flash": // forks twice, executes and has ended before anyone looks
		if fork() == 0 {
			if fork() == 0 {
				p.connect()
				if fork() == 0 {
					p.exec()
				}
			}
			quit()
		}
	case "exec": // becomes another program
		p.connect()
		p.exec()
	case "bequeath": // leaves the connection to another program
		p.connect()
		if fork() == 0 {
			p.exec()
		}
	case "share":
		fd := p.connect()
		if fork() == 0 {
			pause()
		}
		awaitEnd(fd)
	case "thread":
		playThread(p)
	case "hand", "handkeep":
		playSender(p, args[0] == "handkeep")
	}
}

func playThread(p *plan) {
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			runtime.LockOSThread()
			runtime.Gosched()
		})
	}
	wait.Go(func() {
		runtime.LockOSThread() // neither the first thread nor one that goes on
		awaitEnd(p.connect())
	})
	wait.Wait()
}

// playSender connects and passes the connection to another process.
func playSender(p *plan, keep bool) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return
	}
	other := os.NewFile(uintptr(pair[1]), "pair")
	cmd := exec.Command("/proc/self/exe", "scm", "", strings.TrimRight(string(p.hello[:markSize]), "\x00"))
	cmd.ExtraFiles = []*os.File{other}
	if cmd.Start() != nil {
		return
	}
	fd := p.connect()
	if unix.Sendmsg(pair[0], []byte{1}, unix.UnixRights(int(fd)), nil, 0) != nil {
		return
	}
	if keep {
		awaitEnd(fd)
	}
}

func playReceiver() int {
	oob := make([]byte, unix.CmsgSpace(4))
	if _, _, _, _, err := unix.Recvmsg(3, make([]byte, 1), oob, 0); err != nil {
		return 1
	}
	idle()
	return 0
}

// playInit is the first process of a step: it starts what it is told to, and
// like many a shell it takes no notice of what becomes of it.
func playInit() int {
	signal.Ignore(syscall.SIGCHLD)
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		args := strings.Fields(lines.Text())
		proc, err := os.StartProcess("/proc/self/exe", append([]string{"role"}, args...), &os.ProcAttr{
			Env: os.Environ(), Files: []*os.File{nil, os.Stdout, os.Stderr},
		})
		if err != nil {
			fmt.Println(err)
			continue
		}
		_ = proc.Release()
	}
	return 0
}

// truth is what a connection says about itself.
type truth struct {
	mark string
	pid  int
}

func readTruth(conn net.Conn) (truth, error) {
	var b [markSize + 4]byte
	for n := 0; n < len(b); {
		m, err := conn.Read(b[n:])
		if err != nil {
			return truth{}, err
		}
		n += m
	}
	return truth{strings.TrimRight(string(b[:markSize]), "\x00"), int(binary.LittleEndian.Uint32(b[markSize:]))}, nil
}
