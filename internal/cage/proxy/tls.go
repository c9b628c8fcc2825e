package proxy

import (
	"io"
	"time"

	"github.com/buildcage/buildcage/internal/cage/sniff"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// Alerts of RFC 8446, section 6.2.
const (
	alertAccessDenied     = 49
	alertUnrecognizedName = 112
)

// tls judges by the server name in the hello. From here on the connection is
// TLS or refused.
func (c *session) tls() {
	ev := c.event(policy.TLS)
	hello, how := c.readHello()
	switch how {
	case silent:
		c.alert(ev, event.HelloTimeout, firstBytes(c.hello))
		return
	case finished, gone:
		c.leftTLS()
		return
	}
	if hello.ECH {
		ev.Flags = append(ev.Flags, flagECH)
	}
	ev.Name = hello.Name
	if string(hello.Raw) != hello.Name {
		ev.RawName = event.Escape(string(hello.Raw))
	}
	switch hello.Outcome {
	case sniff.Complete:
		c.judgeTLS(ev, hello)
	case sniff.MissingSNI:
		if c.raw { // as a client does when it was given an address for a name
			c.ip("TLS without a server name")
			return
		}
		c.alert(ev, event.MissingSNI, hello.Detail)
	case sniff.InvalidSNI:
		c.alert(ev, event.InvalidSNI, hello.Detail)
	case sniff.TooLarge:
		c.alert(ev, event.HelloTooLarge, hello.Detail)
	default:
		c.alert(ev, event.HelloMalformed, hello.Detail)
	}
}

// readHello reads until the hello is complete or beyond hope.
func (c *session) readHello() (sniff.Hello, lookout) {
	var a sniff.Assembler
	for {
		message, outcome, detail := a.Next(c.hello)
		switch outcome {
		case sniff.Complete:
			return sniff.Parse(message), classified
		case sniff.Incomplete:
		default:
			return sniff.Hello{Outcome: outcome, Detail: detail}, classified
		}
		if how := c.readMore(0); how != classified {
			return sniff.Hello{}, how
		}
	}
}

func (c *session) judgeTLS(ev *event.Conn, hello sniff.Hello) {
	t := policy.Target{Protocol: policy.TLS, Name: hello.Name, Port: c.orig.Port()}
	d := c.step.Rules().Judge(t)
	hidden := hello.ECH && !c.lenient && !c.step.Rules().ECHAllowed()
	decide(ev, d)
	switch {
	case !d.Allowed && c.raw:
		// The address is what was dialled and what a rule would have to allow.
		ev.Protocol, ev.Name, ev.RawName = string(policy.IP), "", event.Escape(string(hello.Raw))
		if !hidden && c.allows(ev, d, c.byAddr()) {
			c.tunnel(ev, "")
			return
		}
		c.alert(ev, event.IPNotAllowed, "TLS server name "+hello.Name)
	case !d.Allowed && (hidden || !c.allows(ev, d, t)):
		c.alert(ev, event.Reason(d.Reason), "")
	case hidden:
		c.alert(ev, event.ECHPresent, "")
	default:
		if c.origName != hello.Name {
			ev.Flags = append(ev.Flags, flagRerouted)
		}
		c.tunnel(ev, hello.Name)
	}
}

// leftTLS records a client that closed inside its hello.
func (c *session) leftTLS() {
	if c.raw {
		c.refuseAddr("client closed inside its TLS hello")
		return
	}
	c.left()
}

// alert refuses a TLS connection in its own words: unrecognized_name where
// the name is the reason, access_denied otherwise.
func (c *session) alert(ev *event.Conn, reason event.Reason, detail string) {
	ev.Verdict, ev.Reason, ev.Detail = event.Blocked, reason, event.Escape(detail)
	code := byte(alertAccessDenied)
	switch reason {
	case event.NotAllowed, event.MissingSNI, event.InvalidSNI:
		code = alertUnrecognizedName
	}
	c.record(ev)
	_, _ = c.client.open().Write([]byte{21, 3, 3, 0, 2, 2, code})
	c.linger()
}

const (
	lingerTime  = time.Second
	lingerBytes = 1 << 20
)

// linger closes so that the client gets to read the refusal: with unread
// bytes of its own the kernel would send a reset, which can overtake it.
func (c *session) linger() {
	c.release()
	conn := c.client.open()
	if conn.CloseWrite() != nil {
		return
	}
	conn.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, conn, lingerBytes)
}
