package docker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/moby/moby/api/pkg/stdcopy"
)

// demux reads the standard output of the engine's multiplexed stream: frames
// of an 8-byte header (stream, three zeros, big-endian length) and a payload.
// It reads straight into the caller's buffer. stdcopy.StdCopy would need a
// goroutine and a pipe for each stream and holds whole frames in memory.
// Standard error goes to stderr; it must not block.
type demux struct {
	src    io.Reader
	stderr io.Writer
	left   uint32 // of the current frame's payload
}

func (d *demux) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for d.left == 0 {
		if err := d.next(); err != nil {
			return 0, err
		}
	}
	if uint64(len(p)) > uint64(d.left) {
		p = p[:d.left]
	}
	n, err := d.src.Read(p)
	d.left -= uint32(n)
	if errors.Is(err, io.EOF) && d.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// next reads headers until a frame of standard output begins.
func (d *demux) next() error {
	var header [8]byte
	if _, err := io.ReadFull(d.src, header[:]); err != nil {
		return err // io.EOF between frames is the end of the stream
	}
	size := binary.BigEndian.Uint32(header[4:])
	switch stdcopy.StdType(header[0]) {
	case stdcopy.Stdin, stdcopy.Stdout:
		d.left = size
		return nil
	case stdcopy.Stderr:
		_, err := io.CopyN(d.stderr, d.src, int64(size))
		return unexpected(err)
	case stdcopy.Systemerr:
		text, err := io.ReadAll(io.LimitReader(d.src, int64(min(size, maxTail))))
		if err != nil {
			return err
		}
		return fmt.Errorf("the engine broke the stream off: %s", printable(oneLine(string(text))))
	}
	return fmt.Errorf("reading the engine's stream: unknown frame type %d", header[0])
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
