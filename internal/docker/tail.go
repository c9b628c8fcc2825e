package docker

import (
	"io"
	"strings"
	"sync"
	"unicode"
)

// maxTail is how much of a stream's end is kept for an error message.
const maxTail = 16 << 10

// tail keeps the end of what is written to it and passes all of it on. It is
// safe for concurrent use.
type tail struct {
	mu   sync.Mutex
	buf  []byte
	cut  bool
	next io.Writer // nil: nobody
}

func newTail(next io.Writer) *tail { return &tail{next: next} }

// Write never fails: losing diagnostics is no reason to lose a cage.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.next != nil {
		_, _ = t.next.Write(p)
	}
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - maxTail; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
		t.cut = true
	}
	return len(p), nil
}

// String is the printable end, in whole lines.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := string(t.buf)
	if t.cut {
		if _, rest, ok := strings.Cut(s, "\n"); ok {
			s = rest
		}
	}
	return printable(s)
}

// printable drops everything that could do something to a terminal; line feeds
// and tabs stay.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(s, "?"))
}

// clip shortens a text for an error message.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
