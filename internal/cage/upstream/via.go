package upstream

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// maxAnswer bounds the head of the other proxy's answer.
const maxAnswer = 8 << 10

// Via is another proxy in front of the network, which wants to be asked with
// CONNECT (RFC 9110, section 9.3.6). It resolves the names that it is asked
// for: what the guard would say of their addresses is up to it.
type Via struct {
	host     string // name or address
	port     uint16
	header   string // of every request, ended
	excepted func(*url.URL) (*url.URL, error)
}

// NewVia parses an http:// URL, with user and password if the proxy asks for
// them, and a NO_PROXY list as other programs read it.
func NewVia(proxy, noProxy string) (*Via, error) {
	u, err := url.Parse(proxy)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" {
		return nil, errors.New("parsing the upstream proxy: not http://HOST:PORT")
	}
	v := &Via{host: u.Hostname(), port: 80, excepted: (&httpproxy.Config{HTTPSProxy: proxy, NoProxy: noProxy}).ProxyFunc()}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("parsing the upstream proxy: port %q", p)
		}
		v.port = uint16(n)
	}
	if u.User != nil {
		password, _ := u.User.Password()
		v.header = "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)) + "\r\n"
	}
	return v, nil
}

// Proxied says whether a destination, a name or an address, is reached through
// the other proxy.
func (d *Dialer) Proxied(host string, port uint16) bool {
	if d.Via == nil {
		return false
	}
	at := net.JoinHostPort(host, strconv.Itoa(int(port)))
	u, err := d.Via.excepted(&url.URL{Scheme: "https", Host: at})
	return err != nil || u != nil
}

// AnswerError is the other proxy's refusal.
type AnswerError struct{ Status string }

func (e *AnswerError) Error() string { return "the upstream proxy answered " + e.Status }

// connect asks the other proxy for host:port.
func (d *Dialer) connect(ctx context.Context, host string, port uint16) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*DialTimeout)
	defer cancel()
	conn, err := d.dialVia(ctx)
	if err != nil {
		return nil, fmt.Errorf("reaching the upstream proxy: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	err = d.Via.ask(conn, net.JoinHostPort(host, strconv.Itoa(int(port))))
	if !stop() {
		err = errors.Join(err, context.Cause(ctx))
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// dialVia connects to the other proxy. Whoever named it means that address, so
// it may be private, but nothing that is guarded always.
func (d *Dialer) dialVia(ctx context.Context) (*net.TCPConn, error) {
	addrs := []netip.Addr{}
	if addr, err := netip.ParseAddr(d.Via.host); err == nil {
		addrs = append(addrs, addr)
	} else if addrs, err = d.Lookup(ctx, strings.ToLower(d.Via.host)); err != nil {
		return nil, err
	}
	passed, refused := d.pass(addrs, func(netip.Addr) bool { return true })
	if len(passed) == 0 {
		return nil, errors.Join(refused, errNoProxyAddress)
	}
	return d.race(ctx, interleave(passed), d.Via.port)
}

var errNoProxyAddress = errors.New("it has no address that may be dialled")

// ask sends the request and reads the head of the answer, not a byte more:
// what follows belongs to the client.
func (v *Via) ask(conn net.Conn, at string) error {
	if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", at, at, v.header); err != nil {
		return fmt.Errorf("asking the upstream proxy: %w", err)
	}
	var head []byte
	for one := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, one[0]) {
		if len(head) == maxAnswer {
			return errors.New("asking the upstream proxy: its answer is too long")
		}
		if _, err := conn.Read(one); err != nil {
			return fmt.Errorf("asking the upstream proxy: %w", err)
		}
	}
	answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return fmt.Errorf("asking the upstream proxy: %w", err)
	}
	answer.Body.Close() // it has none
	if answer.StatusCode/100 != 2 {
		return &AnswerError{Status: strings.TrimSpace(answer.Status)}
	}
	return nil
}
