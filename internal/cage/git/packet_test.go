package git

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestReadMessage(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want string
		err  error
	}{
		"nothing":       {"", "", io.EOF},
		"empty message": {"0000", "0000", nil},
		"two packets":   {"0006ab00010005c0000rest", "0006ab00010005c0000", nil},
		"no flush":      {"0006ab", "", errCut},
		"half a head":   {"00", "", errCut},
		"half a packet": {"0006a", "", errCut},
	} {
		got, err := readMessage(bytes.NewReader([]byte(c.in)), 100)
		if !errors.Is(err, c.err) || string(got) != c.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := readMessage(bytes.NewReader(bytes.Repeat([]byte("0006ab"), 20)), 100); err == nil {
		t.Error("no limit")
	}
	if _, err := readPacket(bytes.NewReader([]byte("0003"))); err == nil {
		t.Error("a length of 3")
	}
}

// What was copied is the input, to the byte, or an error.
func FuzzCopyPackets(f *testing.F) {
	for _, seed := range []string{"", "0000", "0006ab0001", "0006a", "0002", "fffg", "0004", "00000005c"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		err := copyPackets(&out, bytes.NewReader(in))
		if !bytes.HasPrefix(in, out.Bytes()) {
			t.Errorf("%q became %q", in, out.Bytes())
		}
		if err == nil && out.Len() != len(in) {
			t.Errorf("of %q only %q, and no error", in, out.Bytes())
		}
	})
}
