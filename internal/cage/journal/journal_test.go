package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/buildcage/buildcage/internal/event"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// handClock is a clock that tests turn.
type handClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// open starts a journal whose ticker never ticks: tests call Flush.
func open(t testing.TB, l limits) (*Journal, *handClock) {
	t.Helper()
	clock := &handClock{now: epoch}
	j, err := New(filepath.Join(t.TempDir(), "events.jsonl"), Clock{Now: clock.Now, Tick: make(chan time.Time)})
	if err != nil {
		t.Fatal(err)
	}
	j.ledger = newLedger(l)
	t.Cleanup(func() { j.Seal("test over") })
	j.Add(event.Record{Start: &event.Start{Version: event.Version, RunID: "run", Mode: "restrict"}})
	return j, clock
}

func conn(step, name string, v event.Verdict) event.Record {
	c := &event.Conn{Step: step, Protocol: "tls", Name: name, Port: 443, Verdict: v, Up: 2, Down: 3}
	if v == event.Blocked {
		c.Reason = event.NotAllowed
	}
	return event.Record{Conn: c}
}

func dns(step, name string) event.Record {
	return event.Record{DNS: &event.DNS{Step: step, Name: name, Type: "A", Answer: netip.MustParseAddr("198.18.0.2")}}
}

func drop(step string, port uint16) event.Record {
	dest := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.53"), port)
	return event.Record{Drop: &event.Drop{Step: step, Protocol: "udp", Dest: dest}}
}

func exit(step string) event.Record {
	return event.Record{Step: &event.Step{ID: step, Command: "make", Exit: new(int)}}
}

// sealed seals j and returns its records; the decoder checks numbers and totals.
func sealed(t testing.TB, j *Journal) []event.Record {
	t.Helper()
	if err := j.Seal("sealed"); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(j.path)
	if err != nil {
		t.Fatal(err)
	}
	records, err := event.ReadAll(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// end is the end record without the number of records.
func end(records []event.Record) event.End {
	e := *records[len(records)-1].End
	e.Records = 0
	return e
}

// lines renders conn, dns and drop records as "kind step name ×count".
func lines(records []event.Record) []string {
	var out []string
	for _, r := range records {
		switch {
		case r.Conn != nil:
			out = append(out, fmt.Sprintf("conn %s %s %s ×%d %d/%d", r.Conn.Step, r.Conn.Name, r.Conn.Verdict, r.Conn.Times(), r.Conn.Up, r.Conn.Down))
		case r.DNS != nil:
			out = append(out, fmt.Sprintf("dns %s %s ×%d", r.DNS.Step, r.DNS.Name, r.DNS.Times()))
		case r.Drop != nil:
			out = append(out, fmt.Sprintf("drop %s %s ×%d", r.Drop.Step, r.Drop.Dest, r.Drop.Times()))
		case r.Step != nil:
			out = append(out, "step "+r.Step.ID)
		}
	}
	return out
}

func add(j *Journal, n int, r event.Record) {
	for range n {
		j.Add(r)
	}
}

func TestRepeatsFold(t *testing.T) {
	j, clock := open(t, limits{sightings: 2, keys: 100, bytes: 1 << 20})
	add(j, 5, conn("s1", "a.example.com", event.Allowed))
	add(j, 1, conn("s1", "b.example.com", event.Blocked))
	clock.advance(time.Second)
	add(j, 1, conn("s1", "a.example.com", event.Allowed))
	j.Flush()
	add(j, 4, dns("s1", "a.example.com"))
	add(j, 1, drop("s1", 9999))
	records := sealed(t, j)
	want := []string{
		"conn s1 a.example.com allowed ×1 2/3",
		"conn s1 a.example.com allowed ×1 2/3",
		"conn s1 b.example.com blocked ×1 2/3",
		"conn s1 a.example.com allowed ×4 8/12",
		"dns s1 a.example.com ×1",
		"dns s1 a.example.com ×1",
		"drop s1 192.0.2.53:9999 ×1",
		"dns s1 a.example.com ×2",
	}
	if diff := cmp.Diff(want, lines(records)); diff != "" {
		t.Error(diff)
	}
	folded := records[4].Conn.Fold
	if want := (event.Fold{Count: 4, First: epoch, Last: epoch.Add(time.Second)}); !cmp.Equal(want, folded) {
		t.Error(cmp.Diff(want, folded))
	}
	wantEnd := event.End{Conns: 7, Allowed: 6, Blocked: 1, DNS: 4, Drops: 1, Up: 14, Down: 21, Reason: "sealed"}
	if diff := cmp.Diff(wantEnd, end(records)); diff != "" {
		t.Error(diff)
	}
}

func TestFoldKeepsWhatDecides(t *testing.T) {
	j, _ := open(t, limits{sightings: 1, keys: 100, bytes: 1 << 20})
	r := event.Record{Conn: &event.Conn{
		Step: "s1", Process: &event.Process{Exe: "/usr/bin/curl", Chain: []string{"sh", "curl"}, Gone: true, Note: "x"}, Protocol: "http", RawName: `a\x0ab`,
		Orig: netip.MustParseAddrPort("198.18.0.9:80"), OrigName: "c.example.com", Port: 80, Verdict: event.Blocked,
		Reason: event.InvalidHost, Rule: "x", RulePos: "f:1:2", Expected: true, Flags: []string{"ech", "rerouted"},
	}}
	add(j, 2, r)
	records := sealed(t, j)
	first, second := *records[1].Conn, *records[2].Conn
	second.Fold = event.Fold{}
	if diff := cmp.Diff(first, second, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
		t.Error(diff)
	}
}

func TestFoldsBackOff(t *testing.T) {
	j, clock := open(t, limits{sightings: 1, keys: 100, bytes: 1 << 20})
	const seconds = 1000
	for range seconds {
		add(j, 10, conn("s1", "a.example.com", event.Blocked))
		clock.advance(time.Second)
		j.Flush()
	}
	records := sealed(t, j)
	if n := len(records); n > 30 {
		t.Errorf("%d records for %d seconds of repeats", n, seconds)
	}
	if got := end(records).Blocked; got != 10*seconds {
		t.Errorf("%d blocked", got)
	}
}

func TestStepEndReleases(t *testing.T) {
	j, _ := open(t, limits{sightings: 1, keys: 4, bytes: 1 << 20})
	for i := range 5 {
		step := fmt.Sprint("s", i)
		add(j, 2, conn(step, "a.example.com", event.Allowed))
		j.Add(exit(step))
	}
	var want []string
	for i := range 5 {
		line := fmt.Sprintf("conn s%d a.example.com allowed ×1 2/3", i)
		want = append(want, line, line, fmt.Sprint("step s", i))
	}
	if diff := cmp.Diff(want, lines(sealed(t, j))); diff != "" {
		t.Error(diff)
	}
	if n := len(j.ledger.folds) + len(j.ledger.accounts) + j.ledger.kept; n != 0 {
		t.Errorf("%d things remembered of steps that ended", n)
	}
}

// A flood of one kind and verdict must not hide the first sighting of another.
func TestFloodHidesNothing(t *testing.T) {
	j, _ := open(t, limits{sightings: 4, keys: 100, bytes: 64 << 10})
	for i := range 10_000 {
		j.Add(conn("evil", fmt.Sprintf("%d.example.com", i), event.Blocked))
		j.Add(dns("evil", fmt.Sprintf("%d.example.com", i)))
	}
	j.Add(conn("evil", "gist.example.com", event.Allowed))
	j.Add(drop("evil", 53))
	j.Add(conn("good", "pypi.org", event.Blocked))
	records := sealed(t, j)
	seen := make(map[string]bool)
	for _, l := range lines(records) {
		seen[l] = true
	}
	for _, want := range []string{
		"conn evil gist.example.com allowed ×1 2/3", "drop evil 192.0.2.53:53 ×1", "conn good pypi.org blocked ×1 2/3",
	} {
		if !seen[want] {
			t.Errorf("no record %q", want)
		}
	}
	if e := end(records); e.Blocked != 10_001 || e.DNS != 10_000 {
		t.Errorf("totals %+v", e)
	}
}

// Repeats that are pending when the file is full must be counted somewhere.
func TestFullBudgetLosesNoRepeat(t *testing.T) {
	j, _ := open(t, limits{sightings: 1, keys: 100, bytes: 4 << 10})
	add(j, 5, conn("s1", "a.example.com", event.Blocked))
	for i := range 50 {
		j.Add(conn("s1", fmt.Sprintf("%d.example.com", i), event.Blocked))
	}
	records := sealed(t, j)
	if got := end(records).Blocked; got != 55 {
		t.Errorf("%d blocked, want 55", got)
	}
	last := records[len(records)-2].Conn
	if last.Name != OverflowName || last.Detail != OverflowDetail || last.Verdict != event.Blocked {
		t.Errorf("overflow record %+v", last)
	}
}

func TestMillionAttempts(t *testing.T) {
	for _, tt := range []struct {
		name string
		host func(int) string
	}{
		{"unique", func(i int) string { return fmt.Sprintf("%d.example.com", i) }},
		{"repeated", func(i int) string { return fmt.Sprintf("%d.example.com", i%100) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const n = 1_000_000
			l := shipped
			l.bytes = 4 << 20
			j, clock := open(t, l)
			for i := range n {
				j.Add(conn("s1", tt.host(i), event.Blocked))
				if i%1000 == 0 {
					clock.advance(time.Second)
					j.Flush()
				}
			}
			records := sealed(t, j)
			if got := end(records).Blocked; got != n {
				t.Errorf("%d blocked, want %d", got, n)
			}
			if j.size > l.bytes+64<<10 {
				t.Errorf("file of %d bytes", j.size)
			}
			if len(j.ledger.folds) > l.keys+1 {
				t.Errorf("%d keys remembered", len(j.ledger.folds))
			}
		})
	}
}

func TestFullDisk(t *testing.T) {
	j, err := New("/dev/full", Clock{})
	if err != nil {
		t.Skip("no /dev/full here:", err)
	}
	j.Add(event.Record{Start: &event.Start{Version: event.Version}})
	select {
	case err = <-j.Failed():
	default:
		t.Fatal("a failed write is not reported")
	}
	if err == nil {
		t.Fatal("no error")
	}
	j.Add(dns("s1", "a.example.com"))
	if got := j.Seal("sealed"); !errors.Is(got, err) {
		t.Errorf("sealing says %v", got)
	}
	if got := j.Follow(t.Context(), 0, new(bytes.Buffer)); !errors.Is(got, event.ErrIncomplete) {
		t.Errorf("following says %v", got)
	}
}

func TestSealIsFinal(t *testing.T) {
	j, _ := open(t, shipped)
	j.Lost(2)
	j.Lost(3)
	records := sealed(t, j)
	j.Add(dns("s1", "late.example.com"))
	j.Flush()
	if again := sealed(t, j); len(again) != len(records) {
		t.Errorf("%d records after %d", len(again), len(records))
	}
	if got := end(records).Lost; got != 5 {
		t.Errorf("lost %d", got)
	}
	select {
	case err := <-j.Failed():
		t.Error(err)
	default:
	}
}

func TestTickerFlushes(t *testing.T) {
	tick := make(chan time.Time)
	j, err := New(filepath.Join(t.TempDir(), "events.jsonl"), Clock{Tick: tick})
	if err != nil {
		t.Fatal(err)
	}
	j.ledger = newLedger(limits{sightings: 1, keys: 10, bytes: 1 << 20})
	j.Add(event.Record{Start: &event.Start{Version: event.Version}})
	add(j, 3, dns("s1", "a.example.com"))
	tick <- time.Now()
	tick <- time.Now() // taken only after the first was handled
	var folded int64
	ctx, cancel := context.WithCancel(t.Context())
	err = j.Follow(ctx, 3, writerFunc(func(b []byte) (int, error) {
		folded = int64(bytes.Count(b, []byte(`"count":2`)))
		cancel()
		return len(b), nil
	}))
	if !errors.Is(err, context.Canceled) || folded != 1 {
		t.Errorf("%d folded records, %v", folded, err)
	}
	if err := j.Seal("sealed"); err != nil {
		t.Error(err)
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, name := range []string{"folded", "written"} {
		b.Run(name, func(b *testing.B) {
			j, _ := open(b, limits{sightings: 1, keys: 1 << 30, bytes: 1 << 40})
			i := 0
			for b.Loop() {
				host := "a.example.com"
				if name == "written" {
					i++
					host = fmt.Sprint(i, ".example.com")
				}
				j.Add(conn("s1", host, event.Allowed))
			}
		})
	}
}
