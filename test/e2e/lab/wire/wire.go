// Package wire is what the lab's nodes tell the harness: counters, in terms of
// what was sent to whom. Nothing in it is an opinion about the cage.
package wire

import "net/netip"

// Control is the abstract unix socket of a node. It belongs to the node's
// network namespace, so nothing on the lab's network has a way to it.
const Control = "@buildcage-lab"

// Addresses of the lab.
const (
	Subnet  = "10.200.0.0/24"
	Subnet6 = "fd0a:c8::/64"
	Bridge  = "10.200.0.1"
	Names   = "10.200.0.53"
	Origin  = "10.200.0.100"
	Sink    = "10.200.0.200"
	// Trap is the sink once more, as the default gateway of every cage, and
	// Detour the origin, as the gateway to its public address. They are
	// addresses of their own: a cage never dials its gateways.
	Trap   = "10.200.0.254"
	Detour = "10.200.0.253"

	Names6  = "fd0a:c8::53"
	Origin6 = "fd0a:c8::100"
	Sink6   = "fd0a:c8::200"
	Trap6   = "fd0a:c8::254"
	Detour6 = "fd0a:c8::253"

	// OriginPublic and SinkPublic look public to the cage's guard. The first
	// is routed to the origin, everything else that is not in the lab's
	// subnet to the sink.
	OriginPublic  = "198.51.100.100"
	OriginPublic6 = "2001:db8:100::100"
	SinkPublic    = "198.51.100.200"
	SinkPublic6   = "2001:db8:200::200"
)

// Registry is the origin as a registry of images. Two of its other names misbehave:
// RealmRegistry sends clients to the sink for a token, BlobRegistry for blobs.
const (
	Registry      = "registry.allowed.test"
	RealmRegistry = "realm.allowed.test"
	BlobRegistry  = "blobs.allowed.test"
)

// State is everything that a node counted since its last reset.
type State struct {
	Flows    []Flow           `json:"flows"`
	Arrivals []Arrival        `json:"arrivals"`
	Queries  []Query          `json:"queries"`
	Tokens   map[string]int64 `json:"tokens"` // canary tokens, by where they were seen
}

// Flow is the packets to one destination that arrived at a node's interface.
type Flow struct {
	Proto   string     `json:"proto"` // tcp, udp, icmp, icmpv6, sctp, …, proto-N
	Src     netip.Addr `json:"src"`
	Dst     netip.Addr `json:"dst"`
	Port    uint16     `json:"port"` // 0 where there is none
	Packets int64      `json:"packets"`
	SYNs    int64      `json:"syns"`
	Bytes   int64      `json:"bytes"` // behind the transport header
}

// Arrival is what a program sees of connections and requests.
//
// Kinds: conn (a TCP connection was accepted), tls (a ClientHello was parsed;
// Name is its server name), http (a request in the clear; Name is its Host),
// https (a request inside of TLS), raw (bytes that are neither), ws (a message
// on a WebSocket), exporter (both ends of a TLS connection have the same keys;
// Detail is match or mismatch).
type Arrival struct {
	Kind   string         `json:"kind"`
	Name   string         `json:"name"` // "-" for none
	Orig   netip.AddrPort `json:"orig"` // destination as it was dialled
	Detail string         `json:"detail,omitempty"`
	Count  int64          `json:"count"`
	Bytes  int64          `json:"bytes"` // of request bodies and raw streams
}

// Query is a question that up-dns got.
type Query struct {
	Name  string `json:"name"` // lower case, without the last dot
	Type  string `json:"type"`
	Net   string `json:"net"` // udp, tcp
	Count int64  `json:"count"`
}

// TokenPattern finds canary tokens in any bytes.
const TokenPattern = `(?i)cnry[0-9a-f]{16}`
