package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// errTooLong is a head above maxHead.
var errTooLong = errors.New("head above 64 KiB")

// readHead returns the bytes of the next head, which stay in the reader; it may
// take a larger one for them. slow is called before it has to wait. A line that
// does not end in CRLF ends the head early; scan refuses it.
func readHead(br *bufio.Reader, slow func()) (*bufio.Reader, []byte, error) {
	for from, start := 0, 0; ; {
		b, _ := br.Peek(br.Buffered())
		for {
			i := bytes.IndexByte(b[from:], '\n')
			if i < 0 {
				break
			}
			line := b[start : from+i+1]
			start, from = from+i+1, from+i+1
			if len(line) == 2 && line[0] == '\r' || len(line) < 2 || line[len(line)-2] != '\r' ||
				start == len(line) && !bytes.Contains(line, []byte(" HTTP/")) {
				return br, b[:start], nil
			}
		}
		from = len(b)
		if len(b) >= maxHead {
			return br, b, errTooLong
		}
		if len(b) == br.Size() {
			br = bufio.NewReaderSize(br, maxHead)
			if _, err := br.Peek(from); err != nil { // moves what was there
				return br, nil, err
			}
		}
		slow()
		if _, err := br.Peek(from + 1); err != nil {
			b, _ = br.Peek(br.Buffered())
			return br, b, err
		}
	}
}

// skipEmptyLine drops the one empty line that may stand before a request.
func skipEmptyLine(br *bufio.Reader) error {
	b, err := br.Peek(1)
	if err != nil {
		return err
	}
	n := 0
	switch b[0] {
	case '\n':
		n = 1
	case '\r':
		if b, err = br.Peek(2); err != nil {
			return err
		}
		if b[1] == '\n' {
			n = 2
		}
	}
	_, err = br.Discard(n)
	return err
}

// isEnd says that a client ended a connection in the proper way.
func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
