package process

import (
	"slices"

	"github.com/buildcage/buildcage/internal/event"
)

// link is a process in a chain.
type link struct {
	*proc
	*reading
	stat
	reparented bool // its parent is not the one that started it
	lost       bool // its parent could not be read: it is just ending
}

// chain is a process and its ancestors in the step, the oldest first.
type chain []link

func (c chain) last() *link { return &c[len(c)-1] }

// above is the chain without the process itself.
func (c chain) above() chain { return c[:max(0, len(c)-1)] }

// chain reads p and its ancestors up to the first process of the step. It is
// empty when p has ended.
func (t *table) chain(p *proc) chain {
	var c chain
	for tries := 0; len(c) < maxDepth && tries < 2*maxDepth; tries++ {
		l := link{proc: p}
		var ok bool
		if l.stat, ok = t.stat(p); ok {
			l.reading, ok = t.execution(p)
		}
		if !ok {
			if len(c) == 0 {
				return nil
			}
			if tries > patienceForParents {
				c[len(c)-1].lost = true
				break
			}
			p, c = c[len(c)-1].proc, c[:len(c)-1] // it has another parent now, or soon
			continue
		}
		parent, known := t.member(l.ppid, p.net)
		if again, ok := t.stat(p); !ok || again.ppid != l.ppid || !known && tries < patienceForParents {
			continue // what parent is belongs to another process, perhaps
		}
		l.lost = !known
		if n := len(c); n > 0 {
			child := &c[n-1]
			child.reparented = child.session != child.pid && child.session != l.session
		}
		c = append(c, l)
		if parent == nil {
			break
		}
		p = parent
	}
	slices.Reverse(c)
	return c
}

// patienceForParents is how often a process is asked again for its parent when that is ending.
const patienceForParents = 8

// describe reads the holder of a socket with its ancestors, and reads it again:
// it returns false when what it read may be a mixture of before and after.
func (t *table) describe(h holder, inode uint64) (chain, bool) {
	var c chain
	for range 2 {
		if c = t.chain(h.proc); len(c) == 0 || c.last().proc != h.proc {
			return nil, false
		}
		held, ok := t.socket(h.fds, append([]byte(h.fd), 0))
		if !ok || held != inode {
			return c, false
		}
		again, ok := t.stat(h.proc)
		now, same := t.execution(h.proc)
		if ok && same && again == c.last().stat && now == c.last().reading {
			return c, true
		}
	}
	return c, false
}

// first says that the process is the step's first one.
func (c chain) first() bool { return len(c) == 1 && !c[0].lost }

// labels are the processes of c as a person would call them.
func (c chain) labels() []string {
	var list []string
	if len(c) > 0 && c[0].lost {
		list = append(list, cutMark)
	}
	for _, l := range c {
		text := l.label
		if l.reparented {
			text += " (reparented)"
		}
		list = append(list, text)
	}
	if n := len(list); n > maxChain {
		list = slices.Concat(list[:4], []string{cutMark}, list[n-(maxChain-5):])
	}
	return list
}

// process is the last one of c.
func (t *table) process(c chain) *event.Process {
	l := c.last()
	return &event.Process{
		PID: t.inner(l.proc), Exe: event.EscapeMax(l.exe, maxExe), Args: slices.Clone(l.args), Chain: c.labels(),
	}
}
