package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// families are the questions that a lookup asks.
var families = [...]uint16{dns.TypeA, dns.TypeAAAA}

// bufferSize is what answers over UDP may have (DNS flag day 2020).
const bufferSize = 1232

// maxChain is how many CNAMEs are followed in an answer.
const maxChain = 16

// answer is what became of one question.
type answer struct {
	addrs []netip.Addr
	ttl   time.Duration
	err   error
}

// ask puts one question to the servers in turn. A server that says that the
// name does not exist is believed; one that fails is not.
func (r *Resolver) ask(ctx context.Context, name string, family uint16) answer {
	err := ErrNoServer
	for range rounds {
		for _, server := range r.Servers {
			a := r.askServer(ctx, server, name, family)
			if a.err == nil || errors.Is(a.err, ErrNoSuchName) || errors.Is(a.err, ErrNoAddress) {
				return a
			}
			if err = a.err; ctx.Err() != nil {
				return answer{err: err}
			}
		}
	}
	return answer{err: err}
}

// askServer asks over UDP, and again over TCP when the answer was cut.
func (r *Resolver) askServer(ctx context.Context, server netip.AddrPort, name string, family uint16) answer {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	query := new(dns.Msg).SetQuestion(dns.Fqdn(name), family) // id from crypto/rand
	query.SetEdns0(bufferSize, false)
	for _, network := range []string{"udp", "tcp"} {
		reply, err := r.exchange(ctx, network, server, query)
		if err != nil {
			return answer{err: err}
		}
		if network == "udp" && reply.Truncated {
			continue
		}
		return read(query, reply)
	}
	return answer{err: errors.New("truncated over TCP")}
}

// exchange uses a fresh connected socket, so that port and id are both random
// and only the server itself can answer.
func (r *Resolver) exchange(ctx context.Context, network string, server netip.AddrPort, query *dns.Msg) (*dns.Msg, error) {
	dialer := net.Dialer{Control: mark(r.Mark)}
	raw, err := dialer.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, fmt.Errorf("dialling resolver: %w", err)
	}
	conn := &dns.Conn{Conn: raw, UDPSize: bufferSize}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.WriteMsg(query); err != nil {
		return nil, fmt.Errorf("asking resolver: %w", err)
	}
	for {
		reply, err := conn.ReadMsg()
		var broken net.Error
		switch {
		case err == nil && answers(query, reply):
			return reply, nil
		case err != nil && (network == "tcp" || errors.As(err, &broken)):
			return nil, fmt.Errorf("reading resolver's answer: %w", err)
		case network == "tcp":
			return nil, errors.New("resolver answered another question")
		} // a datagram that is no answer to us: wait for the one that is
	}
}

// answers says that reply belongs to query: id, question and role agree.
func answers(query, reply *dns.Msg) bool {
	if !reply.Response || reply.Id != query.Id || len(reply.Question) != 1 {
		return false
	}
	q, a := query.Question[0], reply.Question[0]
	return a.Qtype == q.Qtype && a.Qclass == q.Qclass && strings.EqualFold(a.Name, q.Name)
}

// read takes the addresses at the end of the CNAME chain that starts at the question.
func read(query, reply *dns.Msg) answer {
	switch reply.Rcode {
	case dns.RcodeSuccess:
	case dns.RcodeNameError:
		return answer{err: ErrNoSuchName}
	default:
		return answer{err: fmt.Errorf("resolver answered %s", dns.RcodeToString[reply.Rcode])}
	}
	owner, ttl := query.Question[0].Name, uint32(maxTTL/time.Second)
	for range maxChain {
		target := ""
		for _, rr := range reply.Answer {
			if c, ok := rr.(*dns.CNAME); ok && strings.EqualFold(c.Hdr.Name, owner) {
				target, ttl = c.Target, min(ttl, c.Hdr.Ttl)
				break
			}
		}
		if target == "" {
			return addresses(reply, owner, ttl)
		}
		owner = target
	}
	return answer{err: errors.New("CNAME chain too long")}
}

func addresses(reply *dns.Msg, owner string, ttl uint32) answer {
	var addrs []netip.Addr
	for _, rr := range reply.Answer {
		if !strings.EqualFold(rr.Header().Name, owner) || len(addrs) == maxAddrs {
			continue
		}
		var ip net.IP
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A.To4()
		case *dns.AAAA:
			ip = rr.AAAA
		}
		if addr, ok := netip.AddrFromSlice(ip); ok {
			addrs, ttl = append(addrs, addr), min(ttl, rr.Header().Ttl)
		}
	}
	if len(addrs) == 0 {
		return answer{err: ErrNoAddress}
	}
	return answer{addrs: addrs, ttl: time.Duration(ttl) * time.Second}
}
