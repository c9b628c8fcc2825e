package history

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

var epoch = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// recorded is a run with its records, through the codec as always.
func recorded(t testing.TB, id string, at time.Time, more ...event.Record) *Run {
	t.Helper()
	var b bytes.Buffer
	enc := event.NewEncoder(&b, func() time.Time { return at })
	records := append([]event.Record{
		{Start: &event.Start{Version: event.Version, RunID: id, Mode: "restrict"}},
		{Step: &event.Step{ID: "s1", Command: `npm ci \x0a <&>`, Line: 3}},
		{Conn: &event.Conn{Step: "s1", Protocol: "tls", Name: "registry.example.com", Orig: netip.MustParseAddrPort("198.18.0.9:443"), Port: 443, Verdict: event.Blocked, Reason: event.NotAllowed}},
	}, more...)
	for _, r := range append(records, event.Record{End: &event.End{Reason: "sealed"}}) {
		if err := enc.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	read, err := event.ReadAll(&b)
	if err != nil {
		t.Fatal(err)
	}
	return &Run{Records: read, Facts: Facts{
		Version: version, ID: id, Mode: "restrict", Outcome: "blocked", Records: len(read), Complete: true, BuildExit: 7,
		Config: "buildcage.yaml", Lines: map[string]int{"s1": 3}, PerStep: true, Started: at, Duration: time.Minute,
		Policy: &policy.Spec{Mode: policy.Restrict, Steps: []policy.StepSpec{{Pos: "buildcage.yaml:3:5", Run: "npm *"}}},
	}}
}

func store(t *testing.T) *Store {
	t.Helper()
	return &Store{Dir: filepath.Join(t.TempDir(), "cache", "runs")}
}

func save(t *testing.T, s *Store, runs ...*Run) {
	t.Helper()
	for _, r := range runs {
		if err := s.Save(r); err != nil {
			t.Fatal(err)
		}
	}
}

var compare = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func same(t *testing.T, want, got *Run) {
	t.Helper()
	if diff := cmp.Diff(want, got, compare, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("-kept +read:\n%s", diff)
	}
}

func TestSaveLoad(t *testing.T) {
	s := store(t)
	older, newer := recorded(t, "aa11", epoch), recorded(t, "aa22", epoch.Add(time.Second))
	save(t, s, newer, older)
	for id, want := range map[string]*Run{"": newer, "aa1": older, "aa22": newer} {
		got, err := s.Load(id)
		if err != nil {
			t.Fatalf("%q: %v", id, err)
		}
		same(t, want, got)
	}
	for id, want := range map[string]string{"aa": "not unique: aa22, aa11", "b": `no run "b"`} {
		_, err := s.Load(id)
		var missing *Error
		if !errors.As(err, &missing) || !strings.Contains(err.Error(), want) || missing.Hint() == "" {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestEmpty(t *testing.T) {
	s := store(t)
	var missing *Error
	if _, err := s.Load(""); !errors.As(err, &missing) {
		t.Errorf("got %v", err)
	}
	if runs, damaged, err := s.List(); len(runs) != 0 || damaged != 0 || err != nil {
		t.Error(runs, damaged, err)
	}
	if _, err := os.Stat(s.Dir); err == nil {
		t.Error("reading made a directory")
	}
}

// A run that was cut off is kept as it is.
func TestIncomplete(t *testing.T) {
	s := store(t)
	run := recorded(t, "aa11", epoch)
	run.Records = run.Records[:2]
	run.Facts.Records, run.Complete, run.Problem = 2, false, "the record stops before its end record"
	save(t, s, run)
	none := recorded(t, "aa22", epoch.Add(time.Second))
	none.Records, none.Facts.Records, none.Complete = nil, 0, false
	save(t, s, none)
	for _, want := range []*Run{run, none} {
		got, err := s.Load(want.ID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, want, got)
	}
}

func TestPrivate(t *testing.T) {
	s := store(t)
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	save(t, s, recorded(t, "../../etc/x", epoch))
	files, err := os.ReadDir(s.Dir)
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	for path, want := range map[string]os.FileMode{s.Dir: 0o700, filepath.Join(s.Dir, files[0].Name()): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
}

func TestBounds(t *testing.T) {
	s := store(t)
	s.Runs = 3
	for i := range 6 {
		save(t, s, recorded(t, fmt.Sprintf("aa%d", i), epoch.Add(time.Duration(i)*time.Second)))
	}
	want(t, s, "aa5", "aa4", "aa3")
	entries, err := s.entries()
	if err != nil {
		t.Fatal(err)
	}
	s.Bytes = 2*entries[0].size + 10
	save(t, s, recorded(t, "aa6", epoch.Add(time.Minute)))
	want(t, s, "aa6", "aa5")
	if err := s.Save(recorded(t, "aa7", epoch.Add(time.Hour), large(t)...)); err == nil {
		t.Error("a record as large as the store is kept")
	}
	want(t, s, "aa6", "aa5")
}

func want(t *testing.T, s *Store, ids ...string) {
	t.Helper()
	runs, damaged, err := s.List()
	if err != nil || damaged != 0 {
		t.Fatal(damaged, err)
	}
	var got []string
	for _, r := range runs {
		got = append(got, r.ID)
	}
	if diff := cmp.Diff(ids, got); diff != "" {
		t.Error(diff)
	}
}

// large are records that don't compress.
func large(t *testing.T) (records []event.Record) {
	t.Helper()
	for range 50 {
		b := make([]byte, 200)
		if _, err := rand.Read(b); err != nil {
			t.Fatal(err)
		}
		records = append(records, event.Record{DNS: &event.DNS{Step: "s1", Name: hex.EncodeToString(b), Type: "A"}})
	}
	return records
}

// Whatever happens to a file, reading it says so, and the others are there.
func TestDamaged(t *testing.T) {
	s := store(t)
	save(t, s, recorded(t, "aa11", epoch), recorded(t, "bb22", epoch.Add(time.Second), large(t)...))
	entries, err := s.entries()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Dir, entries[0].name)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 0x40
	for name, data := range map[string][]byte{"empty": nil, "prose": []byte("hello"), "half": whole[:len(whole)/2], "short": whole[:len(whole)-1], "flipped": flipped} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := s.Load("bb22")
		var damage *DamagedError
		if !errors.As(err, &damage) || damage.Hint() == "" {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.Load("aa11"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := s.List(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLeftovers(t *testing.T) {
	s := store(t)
	save(t, s, recorded(t, "aa11", epoch))
	for name, age := range map[string]time.Duration{temporary + "old": 2 * abandoned, temporary + "new": 0} {
		path := filepath.Join(s.Dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	save(t, s, recorded(t, "aa22", epoch.Add(time.Second)))
	left, err := filepath.Glob(filepath.Join(s.Dir, temporary+"*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != temporary+"new" {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestConcurrent(t *testing.T) {
	s := store(t)
	s.Runs = 5
	var all sync.WaitGroup
	for i := range 20 {
		run := recorded(t, fmt.Sprintf("aa%02d", i), epoch.Add(time.Duration(i)*time.Second))
		all.Go(func() {
			if err := s.Save(run); err != nil {
				t.Error(err)
			}
			if _, _, err := s.List(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	runs, damaged, err := s.List()
	if err != nil || damaged != 0 || len(runs) != 5 {
		t.Errorf("%d runs, %d damaged, %v", len(runs), damaged, err)
	}
}

func TestNoDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Store{Dir: filepath.Join(file, "runs")}
	if err := s.Save(recorded(t, "aa11", epoch)); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}
