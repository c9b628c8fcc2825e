package process

import (
	"testing"
	"time"
)

// A flood gets its burst and then a share of one processor, never more.
func TestBudget(t *testing.T) {
	b := newBudget()
	begin := b.last
	const pass, flood = time.Millisecond, 100 * time.Second
	spent := time.Duration(0)
	for at := time.Duration(0); at < flood; at += pass {
		if b.ok(begin.Add(at)) {
			b.spend(pass)
			spent += pass
		}
	}
	if want := burst + flood/share; spent < want-10*pass || spent > want+10*pass {
		t.Errorf("%v of processor time in %v, want %v", spent, flood, want)
	}
	b.spend(time.Hour)
	if b.ok(begin.Add(flood)) {
		t.Error("still something left")
	}
	if !b.ok(begin.Add(flood + 2*share*burst)) {
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
