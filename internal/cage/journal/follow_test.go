package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/buildcage/buildcage/internal/event"
)

func TestConcurrentWritersAndFollowers(t *testing.T) {
	j, _ := open(t, shipped)
	const writers, each, followers = 8, 2000, 4
	var out [followers]bytes.Buffer
	var reading, writing sync.WaitGroup
	for i := range followers {
		reading.Go(func() {
			if err := j.Follow(t.Context(), 0, &out[i]); err != nil {
				t.Error(err)
			}
		})
	}
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				j.Add(conn(fmt.Sprint("s", w), fmt.Sprintf("%d.example.com", i), event.Blocked))
			}
		})
	}
	writing.Wait()
	if got := end(sealed(t, j)).Blocked; got != writers*each {
		t.Errorf("%d blocked", got)
	}
	reading.Wait()
	file, err := os.ReadFile(j.path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range out {
		if !bytes.Equal(file, out[i].Bytes()) {
			t.Errorf("follower %d saw %d of %d bytes", i, out[i].Len(), len(file))
		}
	}
}

func TestFollowFrom(t *testing.T) {
	j, _ := open(t, limits{sightings: 1, keys: 10_000, bytes: 16 << 20})
	for i := range 3000 {
		j.Add(dns("s1", fmt.Sprintf("%d.example.com", i)))
	}
	sealed(t, j)
	file, err := os.ReadFile(j.path)
	if err != nil {
		t.Fatal(err)
	}
	all := bytes.SplitAfter(file, []byte("\n"))
	for _, from := range []uint64{0, 1, 2, 1024, 1025, 1026, 2048, 2049, 3001, 3002, 3003, 9999} {
		var out bytes.Buffer
		if err := j.Follow(t.Context(), from, &out); err != nil {
			t.Fatal(err)
		}
		want := bytes.Join(all[min(max(int(from), 1)-1, len(all)-1):], nil)
		if !bytes.Equal(want, out.Bytes()) {
			t.Errorf("from %d: %d bytes, want %d", from, out.Len(), len(want))
		}
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	j, _ := open(t, shipped)
	ctx, cancel := context.WithCancel(t.Context())
	err := j.Follow(ctx, 0, writerFunc(func(b []byte) (int, error) { cancel(); return len(b), nil }))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
