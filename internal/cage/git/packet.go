package git

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// The special packets of git's packet-line format; each is its own length.
const (
	flushPacket = "0000"
	endPacket   = "0002" // of a response, towards git only
	headSize    = 4
)

// packet is one packet as it was on the wire, its head included.
type packet []byte

func (p packet) flush() bool { return string(p) == flushPacket }

func (p packet) payload() []byte { return p[min(headSize, len(p)):] }

// errCut is the end of input inside of a packet.
var errCut = errors.New("the other side hung up in the middle of a packet")

// readPacket reads one packet. The error is io.EOF at the end of input, and
// only there.
func readPacket(r io.Reader) (packet, error) {
	p := make(packet, headSize)
	if _, err := io.ReadFull(r, p); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errCut
		}
		return nil, err
	}
	var size [2]byte
	if _, err := hex.Decode(size[:], p); err != nil {
		return nil, fmt.Errorf("reading a packet: its length is %q", []byte(p))
	}
	n := int(size[0])<<8 | int(size[1])
	switch {
	case n < 3: // flush, delimiter, end of response
		return p, nil
	case n < headSize:
		return nil, fmt.Errorf("reading a packet: its length is %q", []byte(p))
	}
	p = append(p, make([]byte, n-headSize)...)
	if _, err := io.ReadFull(r, p[headSize:]); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errCut
		}
		return nil, err
	}
	return p, nil
}

// copyPackets copies whole packets to the end of input. What is cut short is
// an error: git would take what follows for the rest of the packet.
func copyPackets(w io.Writer, r io.Reader) error {
	for {
		p, err := readPacket(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if string(p) == endPacket {
			return errors.New("the server sent a packet that only helpers send")
		}
		if _, err := w.Write(p); err != nil {
			return fmt.Errorf("writing to git: %w", err)
		}
	}
}

// readMessage reads packets up to and including the next flush packet. It is
// io.EOF when there is none at all.
func readMessage(r io.Reader, most int) ([]byte, error) {
	var all []byte
	for {
		p, err := readPacket(r)
		switch {
		case errors.Is(err, io.EOF) && len(all) > 0:
			return nil, errCut
		case err != nil:
			return nil, err
		}
		if all = append(all, p...); len(all) > most {
			return nil, fmt.Errorf("more than %d bytes without an end", most)
		}
		if p.flush() {
			return all, nil
		}
	}
}
