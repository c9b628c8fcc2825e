package event

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestFrozen reads records of the past. The files say in their names how they
// must decode. Add files; never edit one: whoever kept such a record can still
// read it.
func TestFrozen(t *testing.T) {
	files, err := filepath.Glob("testdata/*.jsonl")
	if err != nil || len(files) < 3 {
		t.Fatal("no frozen files", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			records, err := ReadAll(bytes.NewReader(data))
			var corrupt *Error
			switch verdict, _, _ := strings.Cut(filepath.Base(file), "-"); {
			case verdict == "complete" && err != nil,
				verdict == "incomplete" && !errors.Is(err, ErrIncomplete),
				verdict == "corrupt" && !errors.As(err, &corrupt):
				t.Errorf("want %s, got %v after %d records", verdict, err, len(records))
			}
		})
	}
}

// FuzzDecoder: no input makes it panic, and what decodes as complete encodes
// to records that decode to the same (unless one had to be cut).
func FuzzDecoder(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.jsonl")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		records, err := ReadAll(bytes.NewReader(data))
		if err != nil {
			return
		}
		i := 0
		var b bytes.Buffer
		enc := NewEncoder(&b, func() time.Time { return records[i].Time })
		for i = range records {
			if err := enc.Encode(records[i]); err != nil {
				t.Fatalf("decoded, but does not encode: %v", err)
			}
		}
		again, err := ReadAll(&b)
		if err != nil {
			t.Fatalf("encoded, but does not decode: %v", err)
		}
		for i := range again {
			if again[i].Truncated && !records[i].Truncated {
				again[i] = records[i] // longer than what was read, and cut
			}
		}
		if diff := cmp.Diff(records, again, sameAddr, cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })); diff != "" {
			t.Error(diff)
		}
	})
}
