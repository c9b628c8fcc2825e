package battery

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/test/e2e/lab/wire"
)

const head = "Title\n\nStory.\n-- case --\npriority: P1\n-- Dockerfile --\nFROM x\n-- restrict --\nexit 0\n-- audit --\nsame\n"

func TestParseRefuses(t *testing.T) {
	if _, err := Parse("TLS-01", []byte(head)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"no story":        {"Story.", ""},
		"unknown key":     {"priority: P1", "priority: P1\nsmokey: yes"},
		"bad value":       {"priority: P1", "priority: P1\nsmoke: true"},
		"bad priority":    {"P1", "P4"},
		"unknown hook":    {"priority: P1", "priority: P1\nhook: dance"},
		"unknown waiver":  {"priority: P1", "priority: P1\nwaive: everything"},
		"no Dockerfile":   {"-- Dockerfile --", "-- Other --"},
		"no audit":        {"-- audit --", "-- other --"},
		"unknown line":    {"exit 0", "exits 0"},
		"bad count":       {"exit 0", "sink many"},
		"bad condition":   {"exit 0", "conn verdict"},
		"bad pattern":     {"exit 0", "output ("},
		"open quote":      {"exit 0", `conn name="x`},
		"section twice":   {"-- audit --", "-- restrict --"},
		"outside context": {"-- Dockerfile --", "-- ../x --\n-- Dockerfile --"},
	} {
		if _, err := Parse("TLS-01", []byte(strings.Replace(head, change[0], change[1], 1))); err == nil {
			t.Errorf("%s: parses", name)
		}
	}
	if _, err := Parse("tls1", []byte(head)); err == nil {
		t.Error("a bad id parses")
	}
}

func lines(t *testing.T, text string) []Expectation {
	t.Helper()
	list, err := ParseExpectations(text)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestMatchEvents(t *testing.T) {
	step := &event.Step{ID: "s1", Command: "curl", Stage: "build"}
	conn := func(name string, v event.Verdict, n int64) event.Record {
		return event.Record{Kind: event.KindConn, Conn: &event.Conn{
			Step: "s1", Protocol: "tls", Name: name, Port: 443, Verdict: v, Orig: netip.MustParseAddrPort("198.18.0.2:443"),
			Fold: event.Fold{Count: n},
		}}
	}
	live := conn("dead.test", event.Blocked, 0)
	live.Conn.Step = "s2"
	records := []event.Record{
		{Kind: event.KindStep, Step: step},
		{Kind: event.KindStep, Step: &event.Step{ID: "s2", Command: "/.lab/bin/probe live audit"}},
		conn("a.test", event.Allowed, 0), conn("b.test", event.Blocked, 3), live,
	}
	list, err := flatten(records)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		text string
		want int // problems
	}{
		{"conn name=a.test verdict=allowed\nconn 3 name=b.test verdict=blocked", 0},
		{"conn name=a.test orig.port=443 orig.addr=198.18.0.2 step.command=curl step.stage=build\nconn >=2 verdict!=allowed", 0},
		{"conn 4 name~^[ab]\\.test$ port>=443 port<=443", 0},
		{"conn name=a.test\nconn any", 0},
		{"conn name=a.test", 1},                       // b is surplus
		{"conn 2 name=a.test\nconn 3 name=b.test", 1}, // too few
		{"conn name=a.test\nconn 2 name=b.test", 1},   // too many
		{"conn 4 name=b.test", 2},
		{"conn name=a.test rule=\nconn 3 reason=", 0},
		{"", 2},
	} {
		_, problems := matchEvents(list, lines(t, tt.text))
		if len(problems) != tt.want {
			t.Errorf("%q: %d problems, want %d: %v", tt.text, len(problems), tt.want, problems)
		}
	}
}

func TestTraffic(t *testing.T) {
	at := netip.MustParseAddrPort
	traffic := &Traffic{
		Token: "cnry0123456789abcdef",
		Origin: wire.State{Arrivals: []wire.Arrival{
			{Kind: "conn", Name: "-", Orig: at("10.200.0.100:443"), Count: 3},
			{Kind: "tls", Name: "allowed.test", Orig: at("10.200.0.100:443"), Count: 2},
			{Kind: "tls", Name: "alive.test", Orig: at("198.51.100.100:443"), Count: 1},
			{Kind: "http", Name: "allowed.test", Orig: at("10.200.0.100:80"), Count: 1, Bytes: 7},
		}},
		Sink: wire.State{
			Flows: []wire.Flow{
				{Proto: "tcp", Dst: netip.MustParseAddr("8.8.8.8"), Port: 53, Packets: 5, SYNs: 1},
				{Proto: "udp", Dst: netip.MustParseAddr("fd0a:c8::200"), Port: 443, Packets: 2, Bytes: 20},
			},
			Tokens: map[string]int64{"udp cnry0123456789abcdef": 2, "udp cnryffffffffffffffff": 9},
		},
		Names: wire.State{Queries: []wire.Query{{Name: "x.blocked.test", Type: "TXT", Count: 4}, {Name: "alive.test", Type: "A", Count: 1}}},
	}
	for text, want := range map[string]int64{
		"origin allowed.test:443 0":        2,
		"origin 0":                         3,
		"origin tls *:443 0":               2,
		"origin conn *:443 0":              3,
		"origin http.bytes allowed.test 0": 7,
		"sink 0":                           7,
		"sink tcp 0":                       1,
		"sink tcp 8.8.8.8:53 0":            1,
		"sink udp [fd0a:c8::200]:443 0":    2,
		"sink udp.bytes 0":                 20,
		"sink icmp 0":                      0,
		"names 0":                          4,
		"names TXT *.blocked.test 0":       4,
		"names A 0":                        0,
		"token sink 0":                     2,
	} {
		if diff := cmp.Diff(want, traffic.count(&lines(t, text)[0])); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}
