package live

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/buildcage/buildcage/internal/event"
)

func conn(name string, port uint16, v event.Verdict) *event.Record {
	return &event.Record{Kind: event.KindConn, Conn: &event.Conn{Name: name, Port: port, Verdict: v, Up: 1 << 10, Down: 1 << 20}}
}

func TestCounter(t *testing.T) {
	refused := func(name string) *event.Record {
		r := conn(name, 443, event.Blocked)
		r.Conn.Up, r.Conn.Down = 0, 0
		return r
	}
	expected := refused("telemetry.example.com")
	expected.Conn.Expected = true
	long := strings.Repeat("a", 60) + ".collector.example.com"
	for _, tc := range []struct {
		name    string
		records []*event.Record
		want    string
	}{
		{"nothing", nil, ""},
		{"only expected", []*event.Record{expected}, ""},
		{"one", []*event.Record{conn("pypi.org", 443, event.Allowed)}, "1 destination, 1.0 KiB up, 1.0 MiB down"},
		{"repeats", []*event.Record{conn("pypi.org", 443, event.Allowed), conn("pypi.org", 443, event.Audited)}, "1 destination, 2.0 KiB up, 2.0 MiB down"},
		{"refused", []*event.Record{conn("pypi.org", 443, event.Allowed), refused("a.example.com"), refused("b.example.com"), refused("a.example.com")},
			"1 destination, 2 refused, 1.0 KiB up, 1.0 MiB down, refused last: b.example.com:443"},
		{"drop", []*event.Record{{Drop: &event.Drop{Protocol: "udp", Dest: netip.MustParseAddrPort("192.0.2.1:123")}}},
			"0 destinations, 1 refused, 0 B up, 0 B down, refused last: udp 192.0.2.1:123"},
		{"noise", []*event.Record{{Drop: &event.Drop{Protocol: "icmpv6", Dest: netip.MustParseAddrPort("[ff02::2]:0")}}}, ""},
		{"hostile", []*event.Record{refused("\x1b[2J\n.example.com")}, "0 destinations, 1 refused, 0 B up, 0 B down, refused last: " + event.Clean("\x1b[2J\n") + ".example.com:443"},
		{"long", []*event.Record{refused(long)}, "0 destinations, 1 refused, 0 B up, 0 B down, refused last: " + strings.Repeat("a", 21) + "..." + (long + ":443")[len(long)+4-40:]},
	} {
		var c Counter
		for _, r := range tc.records {
			c.Add(r)
		}
		if got := c.String(); got != tc.want || !event.Printable(got) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// A step that makes up names takes no more memory than its share, and can't
// turn the count around.
func TestCounterFlood(t *testing.T) {
	var c Counter
	for i := range 2 * most {
		c.Add(conn("n"+strings.Repeat("x", i%7)+string(rune('a'+i%26))+".example.com", uint16(i), event.Blocked))
	}
	if len(c.refused) > most || !strings.Contains(c.String(), " refused or more, ") {
		t.Errorf("%d names kept, %q", len(c.refused), c.String())
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 12 << 10: "12 KiB", 48 << 20: "48 MiB", 1<<63 - 1: "8.0 EiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

// The first line comes at once; then, however many records come, there is one
// for each beat, and none without a change.
func TestFeed(t *testing.T) {
	var beats []func()
	var lines []string
	f := &Feed{Show: func(l string) { lines = append(lines, l) }, after: func(d time.Duration, fn func()) {
		if d != pace {
			t.Errorf("a beat of %v", d)
		}
		beats = append(beats, fn)
	}}
	for range 1000 {
		f.Hear(conn("pypi.org", 443, event.Allowed))
	}
	if want := "1 destination, 1.0 KiB up, 1.0 MiB down"; len(beats) != 1 || len(lines) != 1 || lines[0] != want {
		t.Fatalf("%d beats, lines %q, want one", len(beats), lines)
	}
	beats[0]()
	if want := "1 destination, 1000 KiB up, 1000 MiB down"; len(beats) != 2 || len(lines) != 2 || lines[1] != want {
		t.Fatalf("%d beats, lines %q, want two", len(beats), lines)
	}
	beats[1]()
	f.Hear(&event.Record{Kind: event.KindDNS, DNS: &event.DNS{Name: "pypi.org"}})
	if len(beats) != 2 || len(lines) != 2 {
		t.Fatalf("%d beats, lines %q, though nothing changed", len(beats), lines)
	}
	f.Hear(conn("rubygems.org", 443, event.Allowed))
	f.Hear(conn("crates.io", 443, event.Allowed))
	if len(lines) != 3 {
		t.Fatalf("lines %q, want the third at once, and no fourth", lines)
	}
	f.Flush()
	if want := "3 destinations, 1002 KiB up, 1002 MiB down"; len(lines) != 4 || lines[3] != want {
		t.Errorf("lines %q, the last should be %q", lines, want)
	}
}
