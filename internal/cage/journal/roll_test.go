package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/buildcage/buildcage/internal/event"
)

// small are limits that are reached soon: a step's classes have 3 KiB each, in
// files of 64 KiB.
var small = limits{sightings: 2, keys: 1000, bytes: 64 << 10, share: 3 << 10, roll: true}

func openRolling(t *testing.T) *Journal {
	t.Helper()
	j, err := start(filepath.Join(t.TempDir(), "events.jsonl"), Clock{Tick: make(chan time.Time)}, small)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Seal("test over") })
	j.Add(event.Record{Start: &event.Start{Version: event.Version, RunID: "run", Mode: "restrict"}})
	return j
}

// numbers are those of the records that were followed.
func numbers(t *testing.T, followed []byte) (seq []uint64) {
	t.Helper()
	for line := range bytes.Lines(followed) {
		var r event.Record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		seq = append(seq, r.Seq)
	}
	return seq
}

func follow(t *testing.T, j *Journal, from uint64) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := j.Follow(t.Context(), from, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A journal that rolls stays small, has the latest records without a gap, and
// its totals are those of all that ever was.
func TestRolling(t *testing.T) {
	j := openRolling(t)
	const steps = 400
	for i := range steps {
		id := fmt.Sprint("s", i)
		for n := range 3 {
			j.Add(conn(id, fmt.Sprintf("%d.example.com", n), event.Blocked))
		}
		j.Add(exit(id))
	}
	files, err := filepath.Glob(j.path + "*")
	if err != nil || len(files) != 2 {
		t.Errorf("files %q, error %v", files, err)
	}
	var total int64
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if total > 2*small.bytes {
		t.Errorf("%d bytes are kept", total)
	}
	if err := j.Seal("sealed"); err != nil {
		t.Fatal(err)
	}
	all := follow(t, j, 0)
	seq := numbers(t, all)
	for i := range seq {
		if seq[i] != seq[0]+uint64(i) {
			t.Fatalf("record %d comes after %d", seq[i], seq[i-1])
		}
	}
	if seq[0] < 2 || !strings.Contains(string(all), fmt.Sprintf(`"s%d"`, steps-1)) {
		t.Errorf("it begins with record %d and lacks the last step, or nothing was forgotten", seq[0])
	}
	var last event.Record
	if err := json.Unmarshal(all[bytes.LastIndexByte(bytes.TrimSpace(all), '\n')+1:], &last); err != nil {
		t.Fatal(err)
	}
	if last.End == nil || last.End.Blocked != 3*steps || last.End.Records != last.Seq {
		t.Errorf("the last record is %d, %+v", last.Seq, last.End)
	}
	for _, from := range []uint64{1, seq[0], seq[0] + 1, seq[0] + 30, seq[len(seq)/2], seq[len(seq)-1]} {
		if got := numbers(t, follow(t, j, from)); got[0] != max(from, seq[0]) || len(got) != int(seq[len(seq)-1]-got[0])+1 {
			t.Errorf("from %d: %d records from %d on", from, len(got), got[0])
		}
	}
}

// One step can't flood what others did out of the record, nor what it did
// itself before.
func TestRollingFlood(t *testing.T) {
	j := openRolling(t)
	for i := range 30 { // nearly full
		j.Add(conn(fmt.Sprint("s", i), "earlier.example.com", event.Blocked))
		j.Add(exit(fmt.Sprint("s", i)))
	}
	j.Add(conn("loud", "first.example.com", event.Blocked))
	for i := range 20_000 {
		name := fmt.Sprintf("%d.example.com", i)
		j.Add(conn("loud", name, []event.Verdict{event.Allowed, event.Audited, event.Blocked, event.Failed}[i%4]))
		j.Add(dns("loud", name))
		j.Add(drop("loud", uint16(i)))
	}
	j.Add(conn("next", "later.example.com", event.Blocked))
	if err := j.Seal("sealed"); err != nil {
		t.Fatal(err)
	}
	all := string(follow(t, j, 0))
	for _, want := range []string{`"s0"`, "earlier.example.com", "first.example.com", "later.example.com"} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is gone", want)
		}
	}
}

// Whoever follows gets everything in order while the journal rolls; who is too
// slow misses the oldest, whole records only.
func TestFollowRolling(t *testing.T) {
	j := openRolling(t)
	slow := make(chan struct{})
	var quick, late bytes.Buffer
	var reading sync.WaitGroup
	caught := make(chan uint64, 1)
	reading.Go(func() {
		err := j.Follow(t.Context(), 0, writerFunc(func(b []byte) (int, error) {
			quick.Write(b)
			seq := numbers(t, b)
			select {
			case <-caught:
			default:
			}
			caught <- seq[len(seq)-1]
			return len(b), nil
		}))
		if err != nil {
			t.Error(err)
		}
	})
	reading.Go(func() {
		err := j.Follow(t.Context(), 0, writerFunc(func(b []byte) (int, error) {
			<-slow
			return late.Write(b)
		}))
		if err != nil {
			t.Error(err)
		}
	})
	for i := range 400 {
		id := fmt.Sprint("s", i)
		for n := range 3 {
			j.Add(conn(id, fmt.Sprintf("%d.example.com", n), event.Blocked))
		}
		j.Add(exit(id))
		for uint64(i+1)*4 > <-caught { // it keeps up
		}
	}
	close(slow)
	if err := j.Seal("sealed"); err != nil {
		t.Fatal(err)
	}
	reading.Wait()
	seq := numbers(t, quick.Bytes())
	if seq[0] != 1 || len(seq) != int(seq[len(seq)-1]) {
		t.Errorf("%d records from %d to %d", len(seq), seq[0], seq[len(seq)-1])
	}
	seq = numbers(t, late.Bytes())
	gaps := 0
	for i := 1; i < len(seq); i++ {
		if seq[i] != seq[i-1]+1 {
			gaps++
		}
	}
	if gaps != 1 || seq[len(seq)-1] != 1602 {
		t.Errorf("the slow one has %d gaps and ends at %d", gaps, seq[len(seq)-1])
	}
}

// A part that can't be begun ends the journal, as any record does that can't be
// written.
func TestRollingFails(t *testing.T) {
	j := openRolling(t)
	if err := os.RemoveAll(filepath.Dir(j.path)); err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		j.Add(exit(fmt.Sprint("s", i)))
	}
	select {
	case <-j.Failed():
	default:
		t.Error("it goes on")
	}
	if err := j.Follow(context.Background(), 0, new(bytes.Buffer)); err == nil {
		t.Error("it can be read to the end")
	}
}
