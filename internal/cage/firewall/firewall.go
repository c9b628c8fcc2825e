// Package firewall puts the rules in force that make the cage a cage: every
// TCP connection and every DNS query of a step, and of the builder itself,
// ends at the cage's own proxy and nameserver; nothing else leaves or enters.
// All rules live in one nftables table that is installed in one transaction.
//
// Who is who is decided by the interface a packet uses: lo is the builder,
// the uplinks are the interfaces that existed before the first step, and any
// other interface is the link of a step.
package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
)

// Table is the name of the one nftables table.
const Table = "buildcage"

// Config says what the rules are made of.
type Config struct {
	// Uplinks are the names of the interfaces that lead out of the cage, as they
	// are when the table is installed: one that is put in their place later is none.
	Uplinks []string
	// StepNet4 and StepNet6 are the only sources that a step may use.
	StepNet4, StepNet6 netip.Prefix
	// FakeNet4 and FakeNet6 are routed to lo; only redirected TCP may use them.
	FakeNet4, FakeNet6 netip.Prefix
	// Listen4 and Listen6 are where proxy and nameserver listen.
	Listen4, Listen6 netip.Addr
	ProxyPort        uint16
	DNSPort          uint16
	// ForeignPort is where UDP questions to other resolvers end: they are
	// answered alike, and the log records them with the resolver's address.
	ForeignPort uint16
	// EngineDNS lets UDP questions to other resolvers out by the uplinks. The
	// engine's own resolver for networks with names (127.0.0.11) asks on from
	// inside the container's namespace, by sockets that we can't mark. Steps
	// never get there; the builder asks the nameserver.
	EngineDNS bool
	// Mark is on the sockets that may use the uplinks.
	Mark uint32
	// LogGroup is the NFLOG group that refusals are sent to.
	LogGroup uint16
}

// Firewall is an installed table.
type Firewall struct{ conn *nftables.Conn }

// UnsupportedError means that the kernel has no usable nftables.
type UnsupportedError struct{ Err error }

func (e *UnsupportedError) Error() string { return "installing firewall: " + e.Err.Error() }
func (e *UnsupportedError) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *UnsupportedError) Hint() string {
	return "the engine's kernel needs nf_tables with inet NAT, fib, limit, reject and log (Linux 5.2 or newer), and the container NET_ADMIN"
}

// Install replaces the table in one transaction. After an error nothing of
// it is in force and the caller must not start anything that can talk.
func Install(c Config) (*Firewall, error) {
	uplinks, err := indexes(c.Uplinks)
	if err != nil {
		return nil, err
	}
	conn, err := nftables.New(nftables.WithSockOptions(roomForAnswers))
	if err != nil {
		return nil, &UnsupportedError{fmt.Errorf("opening nftables: %w", err)}
	}
	b := &builder{Config: c, conn: conn, indexes: uplinks}
	if err := b.build(); err != nil {
		return nil, &UnsupportedError{err}
	}
	if err := conn.Flush(); err != nil {
		return nil, &UnsupportedError{fmt.Errorf("committing rules: %w", err)}
	}
	return &Firewall{conn: conn}, nil
}

// roomForAnswers is for the kernel's answers to one transaction, of which each
// rule has two: with the usual buffer that is about as many rules as there are.
func roomForAnswers(c *netlink.Conn) error { return c.SetReadBuffer(1 << 20) }

// Counts are packets since Install.
type Counts struct {
	Refused uint64 // of steps, not TCP and not DNS; each one is logged
	Foreign uint64 // DNS of steps to a resolver that is not ours; logged
	Spoofed uint64 // of steps with a source that is not theirs; logged
	Builder uint64 // of the builder, not TCP and not DNS; logged
	Flooded uint64 // questions of steps beyond any use
	Invalid uint64 // of steps, TCP outside of a connection
	Noise   uint64 // multicast chatter of the kernels
	Uplink  uint64 // from outside, not an answer
}

// Logged is the number of packets that were sent to the NFLOG group.
func (c Counts) Logged() uint64 { return c.Refused + c.Foreign + c.Spoofed + c.Builder }

// Counts reads the counters of the table.
func (f *Firewall) Counts() (Counts, error) {
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: Table}
	objs, err := f.conn.GetNamedObjects(table)
	if err != nil {
		return Counts{}, fmt.Errorf("reading firewall counters: %w", err)
	}
	var c Counts
	fields := c.fields()
	found := 0
	for _, o := range objs {
		name, packets, ok := counterOf(o)
		if field := fields[name]; ok && field != nil {
			*field = packets
			found++
		}
	}
	if found != len(fields) {
		return Counts{}, errors.New("reading firewall counters: the table is not complete")
	}
	return c, nil
}

func (c *Counts) fields() map[string]*uint64 {
	return map[string]*uint64{
		"refused": &c.Refused, "foreign": &c.Foreign, "spoofed": &c.Spoofed, "builder": &c.Builder,
		"flooded": &c.Flooded, "invalid": &c.Invalid, "noise": &c.Noise, "uplink": &c.Uplink,
	}
}

// Check reports whether the table is still in force, complete and with its
// hooks. It is for a watchdog; a step has no way to change the table.
func (f *Firewall) Check() error {
	chains, err := f.conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("checking firewall: %w", err)
	}
	n := 0
	for _, ch := range chains {
		if ch.Table.Name == Table && ch.Hooknum != nil {
			n++
		}
	}
	if n != baseChains {
		return fmt.Errorf("checking firewall: %d of %d chains are in force", n, baseChains)
	}
	return nil
}

// Supported reports an early, cheap reason why Install can't work.
func Supported() error {
	if _, err := os.Stat("/proc/net/netfilter"); err != nil {
		return &UnsupportedError{errors.New("the kernel has no netfilter")}
	}
	return nil
}
