package journal

import "time"

// limits bound the file and the memory of a journal.
type limits struct {
	sightings int   // of one key that are written one by one
	keys      int   // remembered at a time
	bytes     int64 // of the file; only overflow records go on after it
	share     int64 // of that for one class; 0: what there is room for
	roll      bool  // begin another file instead of getting full
}

var shipped = limits{sightings: 32, keys: 40_000, bytes: 48 << 20}

// rolling has two files of half the size at most. A step has ten classes, so
// all that it does takes less than one of them.
var rolling = limits{sightings: 32, keys: 40_000, bytes: 24 << 20, share: 1 << 20, roll: true}

// ledger decides which records are written and which are counted.
//
// Room is given by what is left: a class may hold as much as is still free.
// So one flooding class gets half of everything, two get a third each, and a
// quiet class always finds room for a first sighting. A class without room is
// counted in its overflow folds, exactly.
type ledger struct {
	limits
	folds    map[key]*fold
	accounts map[class]*account
	pending  []*fold // in the order of their first pending repeat
	kept     int     // keys that count towards limits.keys
}

type account struct {
	keys  int
	bytes int64
}

func newLedger(l limits) *ledger {
	return &ledger{limits: l, folds: make(map[key]*fold), accounts: make(map[class]*account)}
}

// sight takes one more record of k and returns whether it is to be written
// itself; if not, it is counted. size is that of the file.
func (l *ledger) sight(k key, s sum, size int64) bool {
	a := l.account(k.class)
	f := l.folds[k]
	if f == nil {
		if a.keys >= l.keys-l.kept || !l.room(a, size, 1) {
			l.count(l.overflow(k), s)
			return false
		}
		f = l.open(k.kept())
		a.keys++
		l.kept++
	}
	// Repeats leave most of the file to first sightings.
	if f.seen == 0 || f.seen < l.sightings && l.room(a, size, 4) {
		f.seen++
		return true
	}
	l.count(f, s)
	return false
}

// room says whether a may have another record in a file of size, when it may
// hold one part-th of what is free.
func (l *ledger) room(a *account, size, part int64) bool {
	return a.bytes < (l.bytes-size)/part && (l.share == 0 || a.bytes < l.share)
}

func (l *ledger) charge(c class, n int) { l.account(c).bytes += int64(n) }

func (l *ledger) account(c class) *account {
	a := l.accounts[c]
	if a == nil {
		a = new(account)
		l.accounts[c] = a
	}
	return a
}

func (l *ledger) open(k key) *fold {
	f := &fold{key: k}
	l.folds[k] = f
	return f
}

func (l *ledger) overflow(k key) *fold {
	m := k.more()
	if f := l.folds[m]; f != nil {
		return f
	}
	return l.open(m.kept())
}

func (l *ledger) count(f *fold, s sum) {
	if f.add(s) {
		l.pending = append(l.pending, f)
	}
}

// flush writes the pending folds that are due, those without room into their
// overflow. write returns the length of the record.
func (l *ledger) flush(due func(*fold) bool, now time.Time, size func() int64, write func(*fold) int) {
	old := l.pending
	l.pending = nil
	var rest []*fold
	for len(old) > 0 {
		for _, f := range old {
			switch {
			case !due(f):
				rest = append(rest, f)
			case f.key.overflow:
				write(f)
				f.settle(now)
			case l.room(l.account(f.key.class), size(), 1):
				l.charge(f.key.class, write(f))
				f.settle(now)
			default:
				s := f.pending
				f.settle(now)
				l.count(l.overflow(f.key), s)
			}
		}
		old, l.pending = l.pending, nil // overflow that came up on the way
	}
	l.pending = rest
}

// release forgets a step that ended. Its repeats must have been flushed.
func (l *ledger) release(step string) {
	for k := range l.folds {
		if k.step != step {
			continue
		}
		delete(l.folds, k)
		if !k.overflow {
			l.kept--
		}
	}
	for c := range l.accounts {
		if c.step == step {
			delete(l.accounts, c)
		}
	}
}
