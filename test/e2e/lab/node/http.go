package main

import (
	"bufio"
	"context"
	"crypto/sha1" //nolint:gosec // RFC 6455 wants it
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

type connKey struct{}

// withConn lets a handler find the connection of a request.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

func origOf(r *http.Request) netip.AddrPort {
	c, _ := r.Context().Value(connKey{}).(net.Conn)
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if c, ok := c.(*conn); ok {
		return c.orig
	}
	return netip.AddrPort{}
}

// ExporterLabel names the keys that both ends of a TLS connection compare.
const exporterLabel = "EXPERIMENTAL-buildcage-lab"

// serve answers every request, and counts it with its body.
func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	kind, orig := "http", origOf(r)
	if r.TLS != nil {
		kind = "https"
	}
	s.count.look(kind, []byte(r.RequestURI+" "+r.Host+fmt.Sprint(r.Header)))
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		s.count.arrive(kind, host(r), orig, r.Method+" "+r.URL.Path+" upgrade", 0)
		s.websocket(w, r, orig)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/v2/") {
		s.count.arrive(kind, host(r), orig, r.Method+" "+r.URL.Path, 0)
		s.serveImages(w, r)
		return
	}
	body, err := s.body(kind, r)
	detail := r.Method + " " + r.URL.Path + " " + r.Proto
	if err != nil {
		detail += " body broke off"
	}
	s.count.arrive(kind, host(r), orig, detail, body)
	s.answer(w, r, orig, body)
}

func host(r *http.Request) string {
	h := r.Host
	if name, _, err := net.SplitHostPort(h); err == nil {
		h = name
	}
	return strings.ToLower(h)
}

func (s *server) body(kind string, r *http.Request) (n int64, err error) {
	buf := make([]byte, 32<<10)
	for {
		k, err := r.Body.Read(buf)
		n += int64(k)
		s.count.look(kind, buf[:k])
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

func (s *server) answer(w http.ResponseWriter, r *http.Request, orig netip.AddrPort, body int64) {
	h := w.Header()
	h.Set("X-Lab", s.role)
	q := r.URL.Query()
	switch r.URL.Path {
	case "/big":
		s.big(w, q)
	case "/upload":
		fmt.Fprintf(w, "%d\n", body)
	case "/stall":
		d, _ := time.ParseDuration(q.Get("for"))
		_, _ = io.WriteString(w, "first half\n")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-time.After(min(d, 10*time.Minute)):
			_, _ = io.WriteString(w, "second half\n")
		case <-r.Context().Done():
		}
	case "/redirect":
		http.Redirect(w, r, q.Get("to"), http.StatusFound)
	case "/status":
		code, _ := strconv.Atoi(q.Get("code"))
		w.WriteHeader(min(max(code, 200), 599))
	case "/exporter":
		s.exporter(w, r, orig)
	case "/wait":
		s.gate.wait(w, r)
	default:
		fmt.Fprintf(w, "lab %s: %s %s for %s at %s\n", s.role, r.Method, r.URL.Path, r.Host, orig)
	}
}

func (s *server) big(w http.ResponseWriter, q url.Values) {
	n, _ := strconv.ParseInt(q.Get("n"), 10, 64)
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	buf := make([]byte, 256<<10)
	for n > 0 {
		k, err := w.Write(buf[:min(n, int64(len(buf)))])
		if err != nil {
			return
		}
		n -= int64(k)
	}
}

// exporter compares the client's keys of the connection with ours. They are
// equal only when nobody in between ended the TLS connection.
func (s *server) exporter(w http.ResponseWriter, r *http.Request, orig netip.AddrPort) {
	verdict := "mismatch"
	if r.TLS != nil {
		key, err := r.TLS.ExportKeyingMaterial(exporterLabel, nil, 32)
		if err == nil && hex.EncodeToString(key) == r.Header.Get("X-Exporter") {
			verdict = "match"
		}
	}
	s.count.arrive("exporter", host(r), orig, verdict, 0)
	fmt.Fprintln(w, verdict)
}

// websocket echoes frames as they are, counting each as one message.
func (s *server) websocket(w http.ResponseWriter, r *http.Request, orig netip.AddrPort) {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "no upgrade here", http.StatusBadRequest)
		return
	}
	defer c.Close()
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	if rw.Flush() != nil {
		return
	}
	for {
		payload, err := readFrame(rw.Reader)
		if err != nil {
			return
		}
		s.count.arrive("ws", host(r), orig, "", int64(len(payload)))
		s.count.look("ws", payload)
		if _, err := c.Write(append([]byte{0x81, byte(len(payload))}, payload...)); err != nil {
			return
		}
	}
}

// readFrame reads one masked frame of at most 125 bytes.
func readFrame(r *bufio.Reader) ([]byte, error) {
	var head [6]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(head[1] & 0x7f)
	if n > 125 {
		return nil, fmt.Errorf("frame of %d bytes", n)
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return nil, err
	}
	mask := binary.BigEndian.Uint32(head[2:])
	for i := range payload {
		payload[i] ^= byte(mask >> (24 - 8*(i%4)))
	}
	return payload, nil
}
