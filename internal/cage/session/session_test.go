package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/buildcage/buildcage/internal/contract"
)

// client is the host's end of a session whose commands are run.
func client(t *testing.T, run Command) (*http.ClientConn, net.Conn, <-chan struct{}) {
	t.Helper()
	here, there := net.Pipe()
	over := make(chan struct{})
	go func() {
		defer close(over)
		if err := Serve(there, there, run, slog.New(slog.DiscardHandler)); err != nil {
			t.Error(err)
		}
	}()
	var only http.Protocols
	only.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols:   &only,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return here, nil },
	}
	conn, err := transport.NewClientConn(t.Context(), "http", "caged:80")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close(); <-over })
	return conn, here, over
}

func start(conn *http.ClientConn, in io.Reader, args ...string) (*http.Response, error) {
	req, err := http.NewRequest(http.MethodPost, "http://caged/"+args[0], in)
	if err != nil {
		return nil, err
	}
	req.Header[contract.SessionArgument] = args[1:]
	return conn.RoundTrip(req)
}

// Commands run side by side, each with streams of its own: an answer comes
// before the input has ended, and the end of the input is theirs to see.
func TestManyAtOnce(t *testing.T) {
	conn, _, _ := client(t, func(_ context.Context, args []string, in io.Reader, out io.Writer) (int, error) {
		fmt.Fprintf(out, "%s!", strings.Join(args, "+"))
		_, err := io.Copy(out, in)
		return len(args), err
	})
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() {
			r, w := io.Pipe()
			resp, err := start(conn, r, "echo", fmt.Sprint(i), "x")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			greeting := make([]byte, len(fmt.Sprintf("echo+%d+x!", i)))
			if _, err := io.ReadFull(resp.Body, greeting); err != nil || string(greeting) != fmt.Sprintf("echo+%d+x!", i) {
				t.Errorf("%q, %v", greeting, err)
			}
			sent := strings.Repeat(fmt.Sprint(i), 3*contract.SessionWindow/2)
			go func() { io.WriteString(w, sent); w.Close() }()
			got, err := io.ReadAll(resp.Body)
			if err != nil || string(got) != sent {
				t.Errorf("%d bytes came back of %d, %v", len(got), len(sent), err)
			}
			if code := resp.Trailer.Get(contract.SessionExit); code != "3" {
				t.Errorf("exit code %q", code)
			}
		})
	}
	all.Wait()
}

// What a command says about its failure can do nothing to who reads it.
func TestFailure(t *testing.T) {
	conn, _, _ := client(t, func(context.Context, []string, io.Reader, io.Writer) (int, error) {
		return 125, errors.New("no\x1b[31m way\r\nX-Evil: 1\xff" + strings.Repeat("é", 2000))
	})
	resp, err := start(conn, http.NoBody, "seal")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	text := resp.Trailer.Get(contract.SessionError)
	if resp.Trailer.Get(contract.SessionExit) != "125" || !strings.HasPrefix(text, "no") || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) || len(text) > 5*maxError {
		t.Errorf("trailers %q", resp.Trailer)
	}
	if resp.Trailer.Get("X-Evil") != "" {
		t.Error("an error can write trailers")
	}
}

// A command that the host breaks off, and one whose host is gone, hear of it.
func TestBrokenOff(t *testing.T) {
	heard := make(chan string, 2)
	conn, end, over := client(t, func(ctx context.Context, args []string, in io.Reader, _ io.Writer) (int, error) {
		_, err := io.Copy(io.Discard, in)
		<-ctx.Done()
		if err == nil {
			t.Errorf("%s: its input ended well", args[0])
		}
		heard <- args[0]
		return 1, err
	})
	in, _ := io.Pipe() // never ends by itself
	broken, err := start(conn, in, "events")
	if err != nil {
		t.Fatal(err)
	}
	other, _ := io.Pipe()
	left, err := start(conn, other, "register")
	if err != nil {
		t.Fatal(err)
	}
	defer left.Body.Close()
	broken.Body.Close()
	if name := <-heard; name != "events" {
		t.Fatalf("%s was broken off", name)
	}
	end.Close()
	if name := <-heard; name != "register" {
		t.Fatalf("%s was broken off", name)
	}
	<-over
}
