package sniff_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/buildcage/buildcage/internal/cage/sniff"
	"github.com/buildcage/buildcage/internal/policy"
)

var errSeen = errors.New("seen")

// tape is a connection that plays what the peer sent and records what is written.
type tape struct {
	in  *bytes.Reader
	out bytes.Buffer
}

func (c *tape) Read(b []byte) (int, error) {
	if c.in == nil {
		return 0, io.EOF
	}
	return c.in.Read(b)
}
func (c *tape) Write(b []byte) (int, error)      { return c.out.Write(b) }
func (c *tape) Close() error                     { return nil }
func (c *tape) LocalAddr() net.Addr              { return nil }
func (c *tape) RemoteAddr() net.Addr             { return nil }
func (c *tape) SetDeadline(time.Time) error      { return nil }
func (c *tape) SetReadDeadline(time.Time) error  { return nil }
func (c *tape) SetWriteDeadline(time.Time) error { return nil }

// clientHello is what a crypto/tls client sends first.
func clientHello(config *tls.Config) []byte {
	config.InsecureSkipVerify = true
	c := &tape{}
	_ = tls.Client(c, config).Handshake()
	return c.out.Bytes()
}

// serverSees is the server name that a crypto/tls server reads from wire.
func serverSees(wire []byte) (name string, ok bool) {
	config := &tls.Config{GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
		name, ok = info.ServerName, true
		return nil, errSeen
	}}
	_ = tls.Server(&tape{in: bytes.NewReader(wire)}, config).Handshake()
	return name, ok
}

func goHellos() [][]byte {
	return [][]byte{
		clientHello(&tls.Config{ServerName: "pypi.org"}),
		clientHello(&tls.Config{ServerName: "pypi.org", MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}),
		clientHello(&tls.Config{ServerName: "192.0.2.1"}), // sends none
		clientHello(&tls.Config{ServerName: "a.example.com", MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}}),
	}
}

func TestGoClient(t *testing.T) {
	for i, want := range []string{"pypi.org", "pypi.org", "", "a.example.com"} {
		wire := goHellos()[i]
		h := read(wire, 1<<16)
		if h.Name != want {
			t.Errorf("hello %d: %+v, want %q", i, h, want)
		}
		if name, ok := serverSees(wire); !ok || name != want {
			t.Errorf("hello %d: crypto/tls sees %q %v", i, name, ok)
		}
	}
}

// Where we let a hello through, a crypto/tls server reads the same name or
// refuses; where it reads a name, we read the same one or refuse. How the
// bytes arrive makes no difference.
func FuzzHello(f *testing.F) {
	for _, wire := range goHellos() {
		f.Add(wire, 7)
		f.Add(records(wire[5:], 50), 100)
	}
	for _, ext := range [][]byte{nil, sni("pypi.org."), sni("a\x00b.org"), append(sni("a.org"), sni("b.org")...), extension(0xfe0d, nil)} {
		f.Add(records(hello(0x0303, ext), 1<<14), 3)
	}
	f.Add([]byte{22, 3, 1, 0, 4, 1, 0, 0, 0}, 1)
	f.Fuzz(func(t *testing.T, wire []byte, segment int) {
		ours := read(wire, 1<<20)
		if pieces := read(wire, 1+(segment&0x3ff)); pieces.Name != ours.Name || pieces.Outcome != ours.Outcome {
			t.Fatalf("in pieces %+v, at once %+v", pieces, ours)
		}
		if !bytes.Contains(wire, ours.Raw) && len(wire) < 1<<14 && bytes.Count(wire, []byte{22, 3}) < 2 {
			t.Fatalf("raw name %q was never sent", ours.Raw)
		}
		if (ours.Outcome == sniff.Complete) != (ours.Name != "") {
			t.Fatalf("outcome and name disagree: %+v", ours)
		}
		theirs, ok := serverSees(wire)
		if !ok {
			return
		}
		if ours.Outcome == sniff.MissingSNI && theirs != "" {
			t.Fatalf("we see no name, crypto/tls sees %q", theirs)
		}
		if ours.Outcome != sniff.Complete {
			return
		}
		if canonical, _ := policy.CanonicalName(theirs); canonical != ours.Name {
			t.Fatalf("we see %q, crypto/tls sees %q", ours.Name, theirs)
		}
	})
}

func FuzzClassify(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Add([]byte("\x16\x03\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		// A verdict never changes when more bytes arrive.
		var settled sniff.Kind
		for i := range min(len(b), 200) + 1 {
			kind := sniff.Classify(b[:min(i, len(b))])
			if settled != sniff.NeedMore && kind != settled {
				t.Fatalf("%q: first %d, then %d", b[:i], settled, kind)
			}
			settled = kind
			if len(b) > 0 && i > 0 && (b[0] == 0x16) != (kind == sniff.TLS) {
				t.Fatalf("%q: %d", b[:i], kind)
			}
		}
	})
}
