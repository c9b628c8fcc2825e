package process

import (
	"fmt"
	"slices"
	"time"

	"github.com/buildcage/buildcage/internal/event"
)

const (
	passLimit  = 25 * time.Millisecond // of one pass over all processes
	maxHolders = 16                    // of one socket that are told apart
)

// search is one lookup that waits for a pass.
type search struct {
	space   *space
	inode   uint64
	born    uint64 // of the connection, at the latest
	holders []holder
	partly  bool // not all processes were looked at
	answer  chan *event.Process
	twins   []*search // for the same socket; they get the same answer
}

// holder is a process and its descriptor of the socket.
type holder struct {
	*proc
	fd string
}

// pass answers all searches of a batch with one look at each process.
func (f *Finder) pass(batch []*search) {
	f.scan.Lock()
	defer f.scan.Unlock()
	begin, watch := time.Now(), startWatch()
	defer func() {
		f.budget.spend(watch.spent() + time.Duration(len(batch))*asking)
		f.paused.Store(time.Now().Add(f.budget.pause()).UnixNano())
	}()
	whole := f.budget.ok(begin, cageTime())
	wanted, spaces := make(map[uint64]*search, len(batch)), make(map[uint64]*space, 1)
	for _, q := range batch {
		q.partly = !whole
		if first := wanted[q.inode]; first != nil {
			first.twins = append(first.twins, q)
			continue
		}
		wanted[q.inode], spaces[q.space.net] = q, q.space
	}
	if whole {
		f.search(wanted, spaces, begin.Add(passLimit))
	} else {
		f.guess(wanted, spaces)
	}
	for _, q := range wanted {
		p := f.answer(q)
		q.answer <- p
		for _, twin := range q.twins {
			twin.answer <- p
		}
	}
}

// search looks at every process of the spaces, or says that it could not.
func (f *Finder) search(wanted map[uint64]*search, spaces map[uint64]*space, deadline time.Time) {
	partly := false
	if err := f.table.refresh(); err != nil {
		f.log.Debug("looking at processes", "error", err)
		partly = true
	}
	f.table.members(spaces, func(p *proc) bool {
		f.look(p, wanted)
		if time.Now().After(deadline) {
			partly = true
		}
		return !partly
	})
	if partly || f.table.full {
		for _, q := range wanted {
			q.partly = true
		}
	}
}

// guess looks only at the processes that were found last, and their ancestors.
func (f *Finder) guess(wanted map[uint64]*search, spaces map[uint64]*space) {
	for _, sp := range spaces {
		p := f.table.procs[sp.last]
		for range maxDepth {
			if p == nil || p.net != sp.net {
				break
			}
			f.look(p, wanted)
			s, ok := f.table.stat(p)
			if !ok {
				break
			}
			p, _ = f.table.member(s.ppid, sp.net)
		}
	}
}

// look notes which of the wanted sockets p holds.
func (f *Finder) look(p *proc, wanted map[uint64]*search) {
	for inode, fd := range f.table.sockets(p) {
		switch q := wanted[inode]; {
		case q == nil || q.space.net != p.net:
		case len(q.holders) == maxHolders:
			q.partly = true
		default:
			q.holders = append(q.holders, holder{p, fd})
		}
	}
}

// answer says what the holders of the socket mean.
func (f *Finder) answer(q *search) *event.Process {
	if len(q.holders) == 0 {
		return f.nobody(q)
	}
	t := f.table
	elder := slices.DeleteFunc(slices.Clone(q.holders), func(h holder) bool {
		s, ok := t.stat(h.proc)
		return !ok || younger(s.start, q.born)
	})
	switch len(elder) {
	case 0:
		return f.heirs(q)
	case 1:
		return f.one(q, elder[0])
	}
	return f.shared(q, elder)
}

// nobody: the socket was closed meanwhile, or is held in a way that no
// directory shows, such as by a message on its way between two processes.
func (f *Finder) nobody(q *search) *event.Process {
	if q.partly {
		return &event.Process{Note: NoteBusy}
	}
	return &event.Process{Note: NoteNobody}
}

// one is the plain case.
func (f *Finder) one(q *search, h holder) *event.Process {
	c, ok := f.table.describe(h, q.inode)
	if !ok {
		held, _ := f.table.socket(h.fds, append([]byte(h.fd), 0))
		return &event.Process{Gone: held != q.inode, Chain: c.above().labels(), Note: NoteChanging}
	}
	p := f.table.process(c)
	q.space.last = h.pid
	switch {
	case q.partly:
		p.Note = NotePartly
	case !c.first() && !older(c.last().start, q.born) && f.table.inheritable(h):
		p.Note = NoteMaybe
	}
	return p
}

// heirs: all holders are younger than the connection. Who opened it has ended
// or closed it; what is above the holders is still known.
func (f *Finder) heirs(q *search) *event.Process {
	c := f.common(q.holders)
	for i := range c {
		if younger(c[i].start, q.born) {
			c = c[:i]
			break
		}
	}
	return &event.Process{Gone: true, Chain: c.labels(), Note: NoteLeft}
}

// shared: the closest common ancestor of all holders, itself a holder or not.
func (f *Finder) shared(q *search, holders []holder) *event.Process {
	note := fmt.Sprintf("shared by %d processes", len(holders))
	if q.partly {
		note = fmt.Sprintf("shared by at least %d processes", len(holders))
	}
	c := f.common(holders)
	for _, h := range holders {
		if len(c) == 0 || h.proc != c.last().proc {
			continue
		}
		if again, ok := f.table.describe(h, q.inode); ok {
			p := f.table.process(again)
			p.Note = note
			return p
		}
		c = c.above()
	}
	return &event.Process{Chain: c.labels(), Note: note}
}

// common is the part of their chains that all holders have in common.
func (f *Finder) common(holders []holder) chain {
	var all chain
	for i, h := range holders {
		c := f.table.chain(h.proc)
		if i == 0 {
			all = c
			continue
		}
		n := 0
		for n < min(len(all), len(c)) && all[n].proc == c[n].proc {
			n++
		}
		all = all[:n]
	}
	return all
}
