package evidence

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/event"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "evidence")
	s := open(t, dir)
	run := Run{At: time.Unix(1, 0).UTC(), PolicyDigest: "sha256:1", Command: "npm ci", Conns: []event.Conn{{Name: "a.example", Port: 443}}}
	must(t, s.Begin("r1", "s1", "npm ci"))
	must(t, s.Keep("k1", "RUN npm ci", run))
	must(t, s.Done("r1", "s1"))
	run.At = time.Unix(2, 0).UTC()
	must(t, s.Keep("k1", "RUN npm ci", run))
	e := open(t, dir).Look("k1")
	if len(e.Runs) != 2 || e.Doubt != "" || e.Name != "RUN npm ci" {
		t.Fatalf("%+v", e)
	}
	if d := cmp.Diff(run, e.Runs[1], cmp.Comparer(func(a, b event.Conn) bool { return a.Name == b.Name && a.Port == b.Port })); d != "" {
		t.Error(d)
	}
	if e := s.Look("k2"); len(e.Runs) != 0 {
		t.Errorf("evidence from nowhere: %+v", e)
	}
	must(t, s.Doubt("k1", ""))
	must(t, s.Doubt("k3", "RUN x"))
	for _, key := range []string{"k1", "k3"} {
		if s.Look(key).Doubt != doubtElsewhere {
			t.Errorf("%s has no doubt", key)
		}
	}
}

// A cage that was killed between the end of a step and its evidence.
func TestLost(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.Keep("k1", "RUN npm ci", Run{Command: "npm ci"}))
	must(t, s.Keep("k2", "RUN make", Run{Command: "make"}))
	must(t, s.Begin("r1", "s1", "npm ci"))
	must(t, os.WriteFile(filepath.Join(dir, "new-123"), []byte("half"), 0o600))
	for range 2 { // the mark is for good
		s = open(t, dir)
		if s.Look("k1").Doubt != doubtLost || s.Look("k2").Doubt != "" {
			t.Errorf("doubts %q and %q", s.Look("k1").Doubt, s.Look("k2").Doubt)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "new-*")); len(left) > 0 {
		t.Errorf("left behind: %s", left)
	}
	s.Lose("make")
	if s.Look("k2").Doubt != doubtLost {
		t.Error("a run without evidence was forgotten")
	}
}

// What can't be read or had to go is missing, and stays so when there is more.
func TestForgottenIsMissing(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"empty": "", "cut": `{"version":1,"runs":[{"at"`, "future": `{"version":9}`} {
		must(t, os.WriteFile(filepath.Join(dir, name+suffix), []byte(content), 0o600))
		s := open(t, dir)
		must(t, s.Keep(name, "RUN x", Run{}))
		if e := s.Look(name); e.Doubt == "" {
			t.Errorf("%s: %+v", name, e)
		}
	}
	s := open(t, dir)
	big := Run{}
	for i := range 3000 {
		big.Conns = append(big.Conns, event.Conn{Name: fmt.Sprint(strings.Repeat("a", 200), i)})
	}
	must(t, s.Keep("big", "RUN x", big))
	if e := s.Look("big"); e.Doubt != doubtTooLarge || len(e.Runs) != 0 {
		t.Errorf("too large: %q, %d runs", e.Doubt, len(e.Runs))
	}
}

func TestShrink(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for i := range 3 {
		path := filepath.Join(dir, fmt.Sprintf("k%d%s", i, suffix))
		must(t, os.WriteFile(path, nil, 0o600))
		must(t, os.Truncate(path, maxTotal/2)) // sparse
		must(t, os.Chtimes(path, time.Time{}, time.Unix(int64(i), 0)))
	}
	must(t, s.recover())
	for i, want := range []int64{0, maxTotal / 2, maxTotal / 2} {
		fi, err := os.Stat(filepath.Join(dir, fmt.Sprintf("k%d%s", i, suffix)))
		if err != nil || fi.Size() != want {
			t.Errorf("k%d: %v, %v", i, fi.Size(), err)
		}
	}
}

// A repeat widens the time of what was seen, and what was seen stays as it was.
func TestObserverTimes(t *testing.T) {
	var o Observer
	o.Begin("s1")
	seen := event.Conn{Step: "s1", Protocol: "http", Name: "allowed.example.com", Method: "GET", Path: "/a", Up: 1, Down: 2}
	before := seen
	first := time.Unix(1000, 0)
	for i := range 3 {
		o.See(event.Record{Time: first.Add(time.Duration(i) * time.Second), Conn: &seen})
	}
	if !reflect.DeepEqual(seen, before) {
		t.Errorf("the record has changed: %+v", seen)
	}
	run := o.End("s1")
	if len(run.Conns) != 1 {
		t.Fatalf("%+v", run)
	}
	if c := run.Conns[0]; !c.First.Equal(first) || !c.Last.Equal(first.Add(2*time.Second)) || c.Count != 3 || c.Up != 3 || c.Down != 6 || c.Path != "" {
		t.Errorf("%+v", c)
	}
}

// A cage that stays does not wait for the next one to keep its bounds.
func TestBoundWhileOpen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	big := Run{}
	for i := range maxEntries {
		big.Conns = append(big.Conns, event.Conn{Name: fmt.Sprint(strings.Repeat("a", 700), i)})
	}
	must(t, s.Keep("first", "RUN x", big))
	old := filepath.Join(dir, "first"+suffix)
	must(t, os.Chtimes(old, time.Time{}, time.Unix(1, 0)))
	s.total = maxTotal + maxTotal/8 - 1 // as after many more
	must(t, os.WriteFile(filepath.Join(dir, "second"+suffix), nil, 0o600))
	must(t, os.Truncate(filepath.Join(dir, "second"+suffix), maxTotal-1)) // sparse
	must(t, s.Begin("r1", "s1", "npm ci"))
	must(t, s.Keep("third", "RUN y", Run{Command: "y"}))
	if s.total > maxTotal || s.files != 3 {
		t.Errorf("%d files of %d bytes are counted", s.files, s.total)
	}
	if e := s.Look("first"); e.Doubt != doubtLost {
		t.Errorf("the oldest: %q", e.Doubt)
	}
	if e := s.Look("third"); e.Doubt != "" || len(e.Runs) != 1 {
		t.Errorf("the latest: %+v", e)
	}
	must(t, s.Done("r1", "s1")) // a mark is no evidence to shrink
}
