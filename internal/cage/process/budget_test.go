package process

import (
	"testing"
	"time"
)

// A flood gets its burst and then its shares, never more.
func TestBudget(t *testing.T) {
	const pass, flood, busy = time.Millisecond, 100 * time.Second, 4 // the cage uses a quarter of a processor
	begin := time.Now()
	b := newBudget(begin, time.Hour)
	spent := time.Duration(0)
	for at := time.Duration(0); at < flood; at += pass {
		if b.ok(begin.Add(at), time.Hour+at/busy) {
			b.spend(pass)
			spent += pass
		}
	}
	if want := burst + flood/share + flood/busy/part; spent < want-10*pass || spent > want+10*pass {
		t.Errorf("%v of processor time in %v, want %v", spent, flood, want)
	}
	if b.spend(debt / 2); b.pause() != 0 {
		t.Error("a small debt makes a pause")
	}
	b.spend(time.Hour)
	if b.ok(begin.Add(flood), time.Hour+flood/busy) {
		t.Error("still something left")
	}
	if b.pause() != longest {
		t.Errorf("a pause of %v, want %v", b.pause(), longest)
	}
	if !b.ok(begin.Add(flood+2*share*burst), time.Hour+flood/busy) {
		t.Error("one long pass is never forgiven")
	}
}

// Without certainty about a connection's age nobody is taken for its opener.
func TestAges(t *testing.T) {
	for _, tc := range []struct {
		start, opened  uint64
		younger, older bool
	}{
		{100, 100, false, false},
		{101, 100, false, false},
		{102, 100, true, false},
		{98, 100, false, false},
		{97, 100, false, true},
		{100, 0, true, false},
	} {
		if y, o := younger(tc.start, tc.opened), older(tc.start, tc.opened); y != tc.younger || o != tc.older {
			t.Errorf("%d and %d: %t %t", tc.start, tc.opened, y, o)
		}
	}
}
