package proxy_test

import (
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/cage/upstream"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"

	"context"
)

// benchProxy is a proxy in front of an origin that serves every connection with f.
func benchProxy(b *testing.B, f func(net.Conn)) string {
	b.Helper()
	origin, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		b.Fatal(err)
	}
	port := origin.Addr().(*net.TCPAddr).AddrPort().Port()
	go func() {
		for {
			c, err := origin.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	p, err := policy.Compile(anyPort())
	if err != nil {
		b.Fatal(err)
	}
	s := &proxy.Server{
		Steps: new(step.Table), Own: func(netip.Addr) bool { return false },
		NameOf: func(netip.Addr) (string, bool) { return "allowed.example.com", true },
		Dialer: &upstream.Dialer{
			Lookup: func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{public}, nil },
			Check:  func(netip.Addr) policy.Class { return policy.Public },
		},
		Record: func(event.Record) {},
		Original: func(int, netip.AddrPort) (netip.AddrPort, error) {
			return netip.AddrPortFrom(fakeOf("allowed.example.com"), port), nil
		},
	}
	s.Steps.Register(&step.Step{
		Step: event.Step{ID: "s1", Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}, Scope: p.For(policy.Step{}),
	})
	listener, err := proxy.Listen(b.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go s.Serve(ctx, listener)
	b.Cleanup(func() {
		cancel()
		origin.Close()
	})
	return listener.Addr().String()
}

// One hello, one byte back, close.
func BenchmarkConnection(b *testing.B) {
	hello := helloFor("allowed.example.com")
	addr := benchProxy(b, func(c net.Conn) {
		io.ReadFull(c, make([]byte, len(hello)))
		c.Write([]byte{1})
	})
	b.ReportAllocs()
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			c.Write(hello)
			io.ReadAll(c)
			c.Close()
		}
	})
}

func BenchmarkThroughput(b *testing.B) {
	hello := helloFor("allowed.example.com")
	const size = 1 << 20
	block := make([]byte, size)
	addr := benchProxy(b, func(c net.Conn) {
		io.ReadFull(c, make([]byte, len(hello)))
		for {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	c.Write(hello)
	into := make([]byte, size)
	b.SetBytes(size)
	b.ResetTimer()
	for range b.N {
		if _, err := io.ReadFull(c, into); err != nil {
			b.Fatal(err)
		}
	}
}

// One request and its response on a connection that stays.
func BenchmarkRequest(b *testing.B) {
	const request, response = "GET /a HTTP/1.1\r\nHost: allowed.example.com\r\nUser-Agent: bench\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
	addr := benchProxy(b, func(c net.Conn) {
		buf := make([]byte, 4<<10)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			io.WriteString(c, response)
		}
	})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, len(response))
	b.ReportAllocs()
	for b.Loop() {
		io.WriteString(c, request)
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
}
