package network

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/cage/lab"
)

// A connection that was closed from inside stands in TIME_WAIT for a minute.
func TestClear(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	s := lab.New(t)
	sockets := func() (n int) {
		s.Do(t, func() error {
			for _, file := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
				b, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				n += strings.Count(string(b), "\n") - 1
			}
			return nil
		})
		return n
	}
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		s.Do(t, func() error {
			l, err := net.Listen("tcp", address)
			if err != nil {
				return err
			}
			defer l.Close()
			here, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				return err
			}
			there, err := l.Accept()
			if err != nil {
				return err
			}
			here.Close()
			_, _ = io.Copy(io.Discard, there)
			return there.Close()
		})
	}
	if sockets() == 0 {
		t.Fatal("nothing is in TIME_WAIT")
	}
	if err := Clear(s.Path()); err != nil {
		t.Fatal(err)
	}
	if n := sockets(); n != 0 {
		t.Errorf("%d sockets are left", n)
	}
}
