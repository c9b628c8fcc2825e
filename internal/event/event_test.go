package event

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var epoch = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// clock ticks a millisecond at each look.
func clock() func() time.Time {
	t := epoch
	return func() time.Time { t = t.Add(time.Millisecond); return t }
}

func sample() []Record {
	exit := 0
	at := netip.MustParseAddrPort
	return []Record{
		{Start: &Start{Version: Version, RunID: "r1", Mode: "restrict", PolicyDigest: "sha256:00", Versions: map[string]string{"caged": "1", "runc": "1.3.3"}}},
		{Step: &Step{ID: "s1", Vertex: "sha256:11", Name: "[2/3] RUN npm ci", Command: "npm ci", Stage: "deps", Line: 4, Secrets: []string{"/run/secrets/npm"}, Addrs: []netip.Addr{netip.MustParseAddr("198.19.0.2")}}},
		{DNS: &DNS{Step: "s1", Name: "pypi.org", Type: "A", Answer: netip.MustParseAddr("198.18.0.7")}},
		{Conn: &Conn{Step: "s1", Process: &Process{PID: 9, Exe: "/usr/bin/node", Args: []string{"node", "npm"}, Chain: []string{"sh", "node"}}, Protocol: "tls", Name: "pypi.org", Orig: at("198.18.0.7:443"), OrigName: "pypi.org", Dialled: at("203.0.113.9:443"), Port: 443, Verdict: Allowed, Rule: "pypi.org:443", RulePos: "buildcage.yaml:4:5", Up: 517, Down: 4096, Took: time.Second}},
		{Conn: &Conn{Step: "s1", Protocol: "tls", Name: "evil.example.com", RawName: Escape("EVIL.example.com\n"), Orig: at("198.18.0.8:443"), Port: 443, Verdict: Blocked, Reason: NotAllowed, Flags: []string{"rerouted"}, Fold: Fold{Count: 41, First: epoch, Last: epoch.Add(time.Minute)}}},
		{Conn: &Conn{Step: "s1", Protocol: "ip", Orig: at("192.0.2.10:443"), Port: 443, Verdict: Audited}},
		{Conn: &Conn{Step: "s1", Protocol: "http", Name: "dl-cdn.alpinelinux.org", Port: 80, Method: "GET", Path: "/x", Request: 2, Verdict: Failed, Reason: UpstreamError, Detail: "connection refused"}},
		{Drop: &Drop{Step: "s1", Protocol: "udp", Dest: at("192.0.2.10:53"), Name: "x.example.com", Fold: Fold{Count: 3}}},
		{Source: &Source{Ref: "FROM node:22", Host: "registry-1.docker.io", Down: 12}},
		{Step: &Step{ID: "s1", Command: "npm ci", Exit: &exit, Took: time.Minute, Evidence: &Evidence{Verdict: EvidenceClean, Runs: 1}}},
		{End: &End{Reason: "sealed"}},
	}
}

func encoded(t testing.TB, records ...Record) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := NewEncoder(&b, clock())
	for _, r := range records {
		if err := enc.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

var sameAddr = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})

func TestRoundTrip(t *testing.T) {
	want := sample()
	now := clock()
	for i := range want {
		kind, _ := want[i].payload()
		want[i].Seq, want[i].Time, want[i].Kind = uint64(i+1), now(), kind
	}
	want[len(want)-1].End = &End{Records: 11, Conns: 44, Allowed: 1, Audited: 1, Blocked: 41, Failed: 1, Drops: 3, DNS: 1, Up: 517, Down: 4096, Reason: "sealed"}
	got, err := ReadAll(bytes.NewReader(encoded(t, sample()...)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, sameAddr); diff != "" {
		t.Error(diff)
	}
}

// Every proper prefix of a record is incomplete, wherever it was cut.
func TestEveryPrefixIsIncomplete(t *testing.T) {
	all := encoded(t, sample()...)
	for n := range all {
		if _, err := ReadAll(bytes.NewReader(all[:n])); !errors.Is(err, ErrIncomplete) {
			t.Fatalf("prefix of %d bytes: %v, want ErrIncomplete", n, err)
		}
	}
}

// No line can go, come twice or change places.
func TestTamperedLines(t *testing.T) {
	lines := bytes.SplitAfter(encoded(t, sample()...), []byte("\n"))
	lines = lines[:len(lines)-1]
	refused := func(what string, with ...[][]byte) {
		t.Helper()
		var b []byte
		for _, part := range with {
			b = append(b, bytes.Join(part, nil)...)
		}
		if _, err := ReadAll(bytes.NewReader(b)); err == nil {
			t.Errorf("%s: decoded as complete", what)
		}
	}
	for i := range lines {
		refused(fmt.Sprintf("line %d erased", i+1), lines[:i], lines[i+1:])
		refused(fmt.Sprintf("line %d doubled", i+1), lines[:i+1], lines[i:])
		if i > 0 {
			refused(fmt.Sprintf("line %d swapped", i+1), lines[:i-1], lines[i:i+1], lines[i-1:i], lines[i+1:])
		}
	}
	refused("twice", lines, lines)
}

func TestDecodeRefuses(t *testing.T) {
	good := string(encoded(t, sample()...))
	change := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %s in sample", old)
		}
		return strings.Replace(good, old, with, 1)
	}
	for name, tc := range map[string]struct{ in, want string }{
		"schema":         {change(`"version":1`, `"version":2`), "line 1: schema version 2, want 1"},
		"kind":           {change(`"kind":"dns"`, `"kind":"dnz"`), `line 3: kind "dnz" with a payload of kind "dns"`},
		"two payloads":   {change(`"dns":{`, `"end":{},"dns":{`), "line 3: "},
		"no payload":     {change(`"dns":{`, `"dnz":{`), "line 3: 0 payloads"},
		"verdict":        {change(`"verdict":"blocked"`, `"verdict":"fine"`), `line 5: verdict "fine" is not known`},
		"forged verdict": {change(`"verdict":"blocked"`, `"verdict":"allowed"`), "line 11: the end record's totals"},
		"forged count":   {change(`"count":41`, `"count":40`), "line 11: the end record's totals"},
		"negative count": {change(`"count":41`, `"count":-41`), "line 5: negative count"},
		"negative bytes": {change(`"bytes_up":517`, `"bytes_up":-517`), "line 4: negative number of bytes"},
		"end count":      {change(`"records":11`, `"records":10`), "line 11: "},
		"no JSON":        {change(`{"seq":3`, `{"seq":`), "line 3: not a record"},
		"two in a line":  {change("\n", " "), "line 1: not a record"},
		"raw byte":       {change("EVIL", `EV\u001bL`), "line 5: text"},
		"raw C1":         {change("EVIL", "EV\u009bL"), "line 5: text"},
		"zone":           {change(`"answer":"198.18.0.7"`, `"answer":"fe80::1%\u001b"`), "line 3: address with a zone"},
		"long":           {change(`"EVIL`, `"`+strings.Repeat("x", MaxRecord)), "line 5: longer than 4096"},
		"tail":           {good + "x", "line 12: record after the end record"},
		"empty line":     {"\n" + good, "line 1: not a record"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadAll(strings.NewReader(tc.in))
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want *Error with %q", err, tc.want)
			}
		})
	}
}

func TestUnknownFieldsPass(t *testing.T) {
	in := strings.Replace(string(encoded(t, sample()...)), `"dns":{`, `"later":[1],"dns":{"ttl":5,`, 1)
	if _, err := ReadAll(strings.NewReader(in)); err != nil {
		t.Error(err)
	}
}

func TestRunID(t *testing.T) {
	d := NewDecoder(bytes.NewReader(encoded(t, sample()...)))
	d.RunID = "r2"
	if _, err := d.Next(); err == nil || !strings.Contains(err.Error(), `run "r1", want "r2"`) {
		t.Errorf("another run's record: %v", err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	start, end := sample()[0], Record{End: &End{}}
	for name, records := range map[string][]Record{
		"no start":     {end},
		"two starts":   {start, start},
		"after end":    {start, end, end},
		"no payload":   {start, {}},
		"two payloads": {start, {End: &End{}, DNS: &DNS{}}},
		"verdict":      {start, {Conn: &Conn{Verdict: "fine"}}},
		"negative":     {start, {Drop: &Drop{Fold: Fold{Count: -1}}}},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			enc := NewEncoder(&b, clock())
			var err error
			for _, r := range records {
				err = enc.Encode(r)
			}
			if err == nil {
				t.Error("encoded")
			}
			size := b.Len()
			if enc.Encode(Record{End: &End{}}) == nil || b.Len() != size {
				t.Error("an encoder went on after an error")
			}
		})
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestEncodeWriteError(t *testing.T) {
	if err := NewEncoder(brokenWriter{}, clock()).Encode(sample()[0]); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %v", err)
	}
}

// A record of hostile giants keeps its decision and fits.
func TestEncodeCuts(t *testing.T) {
	name := strings.Repeat("a.", 126) + "z" // 253 bytes
	giant := strings.Repeat(`"\`, 1<<16)
	args := make([]string, 3000)
	for i := range args {
		args[i] = giant[:100]
	}
	in := Record{Conn: &Conn{
		Step: "s1", Name: name, RawName: giant, OrigName: giant, Rule: giant, RulePos: giant, Protocol: "http",
		Method: giant, Path: giant, Detail: giant, Verdict: Blocked, Reason: AuthorityMismatch, Flags: args,
		Process: &Process{Exe: giant, Args: args, Chain: args}, Orig: netip.MustParseAddrPort("[2001:db8::1%eth0]:65535"),
	}}
	got, err := ReadAll(bytes.NewReader(encoded(t, sample()[0], in, Record{End: &End{}})))
	if err != nil {
		t.Fatal(err)
	}
	c := got[1].Conn
	if !got[1].Truncated || c.Name != name || c.Verdict != Blocked || c.Reason != AuthorityMismatch {
		t.Errorf("truncated %t, name %q, verdict %q, reason %q", got[1].Truncated, c.Name, c.Verdict, c.Reason)
	}
	if got[0].Truncated || got[2].Truncated {
		t.Error("a short record is marked truncated")
	}
	if len(in.Conn.Path) != len(giant) || len(in.Conn.Flags) != 3000 || len(in.Conn.Process.Args[0]) != 100 {
		t.Error("the caller's record was cut")
	}
}

// TestWalkIsComplete puts hostile text into every string that the types have,
// so that a new field can't be forgotten in walk.
func TestWalkIsComplete(t *testing.T) {
	for _, r := range sample() {
		fill(reflect.ValueOf(&r).Elem())
		if r.Conn != nil {
			r.Conn.Verdict = Blocked
		}
		for _, line := range [][]byte{mustFit(t, r)} {
			for _, c := range line[:len(line)-1] {
				if !printable(c) || bytes.Contains(line, []byte(`\u`)) {
					t.Fatalf("unprintable text in %q", line)
				}
			}
		}
	}
}

func mustFit(t *testing.T, r Record) []byte {
	r.Kind = "x"
	line, err := fit(&r)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("a\x1b\u202e\n")
	case reflect.Pointer:
		if !v.IsNil() {
			fill(v.Elem())
		}
	case reflect.Struct:
		if _, opaque := v.Interface().(time.Time); opaque || v.Type().PkgPath() == "net/netip" {
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.String {
			v.Set(reflect.ValueOf([]string{"a\x1b\n"}))
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"a\x1b": "b\n"}))
	}
}

func TestAdd(t *testing.T) {
	const most = int64(1<<63 - 1)
	if got := Add(most, most); got != most {
		t.Errorf("Add turned around to %d", got)
	}
}
