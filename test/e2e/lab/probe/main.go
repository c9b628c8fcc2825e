// Command probe is what a hostile step does, in one static program: TLS with
// chosen bytes, HTTP with chosen bytes, DNS, raw IP, floods. It prints what it
// saw and exits with 0 unless told otherwise: what a client sees is never the
// oracle. Seeds are fixed, time-outs short. See docs/adding-a-case.md.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

type command struct {
	name, usage string
	run         func(p *probe, args []string) error
}

func commands() []command {
	return []command{
		{"tls", "[flags] HOST:PORT      ClientHello of chosen bytes, or a real handshake", (*probe).tls},
		{"http", "[flags] HOST:PORT REQUEST…  raw requests on one connection", (*probe).http},
		{"fetch", "[flags] URL…         an ordinary client", (*probe).fetch},
		{"live", "restrict|audit       the liveness check of the harness", (*probe).live},
		{"tcp", "[flags] HOST:PORT[,PORT…]…  connect, send, print what comes back", (*probe).tcp},
		{"dns", "[flags] NAME…          questions of any type to any server", (*probe).dns},
		{"resolve", "NAME…              the resolver that Go programs use", (*probe).resolve},
		{"raw", "[flags] KIND ADDRESS…  udp, icmp, sctp, proto:N, spoof:SOURCE, broadcast, fragment, frame", (*probe).raw},
		{"flood", "[flags] KIND HOST:PORT  tcp, slow, tls, dns, query, udp", (*probe).flood},
		{"fam", "socket families and raw sockets that open", (*probe).fam},
		{"caps", "capabilities, seccomp, uid of this process", (*probe).caps},
		{"mounts", "mounts, devices and sockets in the file system", (*probe).mounts},
		{"scan", "[flags] ADDRESS…      TCP ports that answer", (*probe).scan},
		{"admin", "tries to change the network, kernel settings, namespaces and mounts", (*probe).admin},
		{"kill", "tries to signal, trace and read processes that are not ours", (*probe).kill},
		{"devices", "makes device nodes and opens them", (*probe).devices},
		{"fds", "open files that this process was born with", (*probe).fds},
		{"binds", "[PATH…]            mounts that a step is not known to have", (*probe).binds},
		{"agent", "uses the ssh agent, and tries to get through it", (*probe).agent},
		{"unix", "PATH|@NAME…         connects to unix sockets", (*probe).unix},
		{"sockets", "searches the file system for sockets and connects", (*probe).sockets},
		{"listen", "[flags] PORT…       TCP and UDP; tells what arrives", (*probe).listen},
		{"wait", "[NAME]  wait for the harness's hook, at https://alive.test/wait", (*probe).wait},
		{"abort", "[flags] HOST:PORT…  begins a connection and leaves it", (*probe).abort},
		{"noise", "[flags] tls|host|path HOST:PORT  names and paths of random bytes", (*probe).noise},
		{"sleep", "DURATION", (*probe).sleep},
	}
}

// probe is one use of the program.
type probe struct {
	out     io.Writer
	timeout time.Duration
	expect  string     // of the output; else exit 9
	mu      sync.Mutex // of out
	seen    strings.Builder
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout))
}

func run(args []string, out io.Writer) int {
	p := &probe{timeout: 3 * time.Second}
	p.out = io.MultiWriter(out, &p.seen)
	for _, c := range commands() {
		if len(args) == 0 || args[0] != c.name {
			continue
		}
		if err := c.run(p, args[1:]); err != nil {
			p.say("error: %v", err)
			var fatal *fatalError
			if errors.As(err, &fatal) {
				return 2
			}
		}
		if p.expect != "" && !strings.Contains(p.seen.String(), p.expect) {
			return 9
		}
		return 0
	}
	for _, c := range commands() {
		fmt.Fprintf(out, "probe %s %s\n", c.name, c.usage)
	}
	return 2
}

// fatalError is a wrong command line: the case is broken, not the cage.
type fatalError struct{ error }

func fatalf(format string, args ...any) error { return &fatalError{fmt.Errorf(format, args...)} }

func (p *probe) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, format+"\n", args...)
}

// flags are those that every command has.
func (p *probe) flags(name string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.DurationVar(&p.timeout, "timeout", p.timeout, "of connecting and of waiting for an answer")
	f.StringVar(&p.expect, "expect", "", "exit with 9 unless the output contains this")
	return f
}

func parse(f *flag.FlagSet, args []string, least int) ([]string, error) {
	if err := f.Parse(args); err != nil {
		return nil, &fatalError{err}
	}
	if f.NArg() < least {
		return nil, fatalf("%s: %d arguments, want %d", f.Name(), f.NArg(), least)
	}
	return f.Args(), nil
}

// unescape reads Go's escapes: \x00 \r \n \u2028.
func unescape(s string) (string, error) {
	out, err := strconv.Unquote(`"` + strings.ReplaceAll(strings.ReplaceAll(s, `\"`, `"`), `"`, `\"`) + `"`)
	if err != nil {
		return "", fatalf("escapes in %q: %w", s, err)
	}
	return out, nil
}

func (p *probe) dial(addr string) (net.Conn, error) {
	return (&net.Dialer{Timeout: p.timeout}).Dial("tcp", addr)
}

// brief is bytes for people: printable, at most 200.
func brief(b []byte) string {
	const most = 200
	if len(b) > most {
		return strconv.Quote(string(b[:most])) + "…"
	}
	return strconv.Quote(string(b))
}

func (p *probe) sleep(args []string) error {
	if len(args) != 1 {
		return fatalf("sleep DURATION")
	}
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return &fatalError{err}
	}
	time.Sleep(d)
	return nil
}
