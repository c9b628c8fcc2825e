package docker_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/moby/moby/api/pkg/stdcopy"

	"github.com/buildcage/buildcage/internal/docker"
)

func frame(stream stdcopy.StdType, payload string) string {
	header := [8]byte{byte(stream)}
	binary.BigEndian.PutUint32(header[4:], uint32(len(payload)))
	return string(header[:]) + payload
}

func TestDemux(t *testing.T) {
	stream := frame(stdcopy.Stdout, "one ") + frame(stdcopy.Stderr, "noise") + frame(stdcopy.Stdout, "") + frame(stdcopy.Stdout, "two")
	tests := []struct {
		name, in, out, stderr, err string
	}{
		{"mixed", stream, "one two", "noise", ""},
		{"empty", "", "", "", ""},
		{"cut in a payload", stream[:len(stream)-1], "one tw", "noise", "unexpected EOF"},
		{"cut in a header", stream[:14], "one ", "", "unexpected EOF"},
		{"cut in standard error", stream[:22], "one ", "no", "unexpected EOF"},
		{"engine error", frame(stdcopy.Systemerr, "broken\npipe\x1b"), "", "", "the engine broke the stream off: broken pipe"},
		{"not multiplexed", "Hello, world", "", "", "reading the engine's stream: unknown frame type 72"},
	}
	for _, tt := range tests {
		for _, reader := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.DataErrReader} {
			var stderr strings.Builder
			out, err := io.ReadAll(docker.Demux(reader(strings.NewReader(tt.in)), &stderr))
			if string(out) != tt.out || stderr.String() != tt.stderr || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
				t.Errorf("%s: %q, %q, %v; want %q, %q, %s", tt.name, out, stderr.String(), err, tt.out, tt.stderr, tt.err)
			}
		}
	}
}

// Demux agrees with stdcopy, which it replaces, on all streams that end well.
func FuzzDemux(f *testing.F) {
	f.Add([]byte(frame(stdcopy.Stdout, "one") + frame(stdcopy.Stderr, "noise")))
	f.Add([]byte(frame(stdcopy.Systemerr, "broken")))
	f.Fuzz(func(t *testing.T, in []byte) {
		rest := in
		for len(rest) >= 8 {
			size := int(binary.BigEndian.Uint32(rest[4:]))
			if size > len(rest)-8 {
				return // stdcopy hides that something was cut off
			}
			rest = rest[8+size:]
		}
		var out, stderr, wantOut, wantErr bytes.Buffer
		_, err := io.Copy(&out, docker.Demux(bytes.NewReader(in), &stderr))
		_, want := stdcopy.StdCopy(&wantOut, &wantErr, bytes.NewReader(in))
		if errors.Is(err, io.ErrUnexpectedEOF) && len(rest) > 0 {
			err = nil // it hides that too
		}
		if (err == nil) != (want == nil) || out.String() != wantOut.String() || stderr.String() != wantErr.String() {
			t.Errorf("%q, %q, %v; stdcopy: %q, %q, %v", out.String(), stderr.String(), err, wantOut.String(), wantErr.String(), want)
		}
	})
}
