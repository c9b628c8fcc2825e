// Standin speaks the cage's side of the contract without being a cage: no
// BuildKit, no firewall. It lets the host side be tested against a real
// engine with real containers, streams and deaths, in a second per test.
//
// The version in the boot line chooses how it boots. What is sent to its
// "BuildKit", line by line, makes it do things; every line is echoed.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
)

func main() {
	if len(os.Args) > 1 {
		client(os.Args[1], os.Args[2:])
	}
	boot()
}

// client is what the execs run.
func client(command string, args []string) {
	if command == contract.CommandSession {
		session()
		os.Exit(0)
	}
	if command == contract.CommandDialStdio {
		conn := dial(contract.BuildKitSocket)
		go func() {
			io.Copy(conn, os.Stdin)
			conn.(*net.UnixConn).CloseWrite()
		}()
		io.Copy(os.Stdout, conn)
		os.Exit(0)
	}
	conn := dial(contract.ControlSocket)
	fmt.Fprintln(conn, command, strings.Join(args, " "))
	last := ""
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if last = lines.Text(); last != "ok" {
			fmt.Println(last)
		}
	}
	if last != "ok" {
		fmt.Fprintf(os.Stderr, "%s: broken off\n", command)
		os.Exit(1)
	}
	os.Exit(0)
}

func dial(path string) net.Conn {
	conn, err := net.Dial("unix", path)
	check(err)
	return conn
}

func boot() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	line, err := in.ReadBytes('\n')
	check(err)
	var b contract.Boot
	check(json.Unmarshal(line, &b))
	fmt.Fprintf(os.Stderr, "boot: %d bytes of certificates, %d guarded\n", len(b.ExtraCA), len(b.Guard))
	switch b.CLI {
	case "fail":
		say(contract.Status{State: contract.StateFailed, Error: "no nftables here", Hint: "modprobe\x1b[31m nf_tables"})
		os.Exit(contract.ExitFailed)
	case "hang":
		io.Copy(io.Discard, in)
	case "crash":
		fmt.Fprintln(os.Stderr, "panic: something went \x1b[31mwrong")
		os.Exit(2)
	case "garbage":
		fmt.Println("Segmentation fault")
		io.Copy(io.Discard, in)
	}
	say(contract.Status{State: contract.StateStarting})
	j := newJournal(b.RunID)
	go serve(contract.ControlSocket, j.control)
	serveReady(contract.BuildKitSocket, j.echo)
	say(contract.Status{State: contract.StateReady, BuildKit: "v0.0.0-standin"})
	io.Copy(io.Discard, in)
	say(contract.Status{State: contract.StateStopped})
}

func say(s contract.Status) {
	s.Time = time.Now()
	json.NewEncoder(os.Stdout).Encode(s)
}

func listen(path string) net.Listener {
	check(os.MkdirAll(filepath.Dir(path), 0o700))
	l, err := net.Listen("unix", path)
	check(err)
	return l
}

func serve(path string, handle func(net.Conn)) { accept(listen(path), handle) }

func serveReady(path string, handle func(net.Conn)) {
	l := listen(path)
	go accept(l, handle)
}

func accept(l net.Listener, handle func(net.Conn)) {
	for {
		conn, err := l.Accept()
		check(err)
		go func() {
			defer conn.Close()
			handle(conn)
		}()
	}
}

// journal keeps encoded lines and wakes its followers.
type journal struct {
	mu    sync.Mutex
	more  *sync.Cond
	enc   *event.Encoder
	buf   bytes.Buffer
	lines []string
	done  bool
	cut   int // generation: followers of an older one are broken off
}

func newJournal(run string) *journal {
	j := &journal{}
	j.more = sync.NewCond(&j.mu)
	j.enc = event.NewEncoder(&j.buf, time.Now)
	j.add(event.Record{Kind: event.KindStart, Start: &event.Start{Version: event.Version, RunID: run, Mode: "restrict"}})
	return j
}

func (j *journal) add(r event.Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	check(j.enc.Encode(r))
	j.lines = append(j.lines, strings.TrimSuffix(j.buf.String(), "\n"))
	j.buf.Reset()
	j.done = r.Kind == event.KindEnd
	j.more.Broadcast()
}

func (j *journal) control(conn net.Conn) {
	line, err := bufio.NewReader(conn).ReadString('\n')
	check(err)
	switch words := strings.Fields(line); words[0] {
	case contract.CommandSeal:
		j.add(event.Record{Kind: event.KindEnd, End: &event.End{Reason: "sealed"}})
		fmt.Fprintln(conn, "ok")
	case contract.CommandEvents:
		from, err := strconv.Atoi(words[2])
		check(err)
		j.follow(conn, from-1)
	}
}

func (j *journal) follow(conn net.Conn, next int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for mine := j.cut; mine == j.cut; j.more.Wait() {
		for ; next < len(j.lines); next++ {
			fmt.Fprintln(conn, j.lines[next])
		}
		if j.done {
			fmt.Fprintln(conn, "ok")
			return
		}
	}
}

// echo is the stand-in for BuildKit.
func (j *journal) echo(conn net.Conn) {
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		switch line := lines.Text(); line {
		case "die":
			say(contract.Status{State: contract.StateFailed, Error: "buildkitd is dead"})
			os.Exit(contract.ExitFailed)
		case "exit":
			os.Exit(contract.ExitOK)
		case "cut":
			j.mu.Lock()
			j.cut++
			j.more.Broadcast()
			j.mu.Unlock()
		default:
			j.add(event.Record{Kind: event.KindDNS, DNS: &event.DNS{Step: "s1", Name: line, Type: "A"}})
		}
		fmt.Fprintln(conn, lines.Text())
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
