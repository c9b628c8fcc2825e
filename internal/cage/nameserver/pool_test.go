package nameserver

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/buildcage/buildcage/internal/contract"
)

func TestPoolAddresses(t *testing.T) {
	p := &Pool{PerStep: slots}
	seen := make(map[netip.Addr]string)
	for i := range slots {
		name := fmt.Sprintf("%d.example.com", i)
		v4, v6, ok := p.Assign("s1", name)
		if !ok {
			t.Fatalf("no address for name %d", i)
		}
		if !contract.FakeNet4.Contains(v4) || !contract.FakeNet6.Contains(v6) {
			t.Fatalf("%s: addresses %v, %v outside of the networks", name, v4, v6)
		}
		if last := v4.As4()[3]; last == 0 || last == 255 || v4 == contract.Listen4 || v6 == contract.Listen6 {
			t.Fatalf("%s: address %v, %v must not be handed out", name, v4, v6)
		}
		for _, a := range []netip.Addr{v4, v6, netip.AddrFrom16(v4.As16())} {
			if other := seen[a]; other != "" {
				t.Fatalf("%v given to %s and %s", a, other, name)
			}
			if a == v4 || a == v6 {
				seen[a] = name
			}
			if got, ok := p.Name(a); !ok || got != name {
				t.Fatalf("%v is %q, want %q", a, got, name)
			}
		}
	}
	if _, _, ok := p.Assign("s2", "one.example.com"); ok {
		t.Error("an address more than there are")
	}
	if v4, _, ok := p.Assign("s2", "7.example.com"); !ok || seen[v4] != "7.example.com" {
		t.Error("a full pool forgets a name")
	}
}

func TestPoolNameless(t *testing.T) {
	p := &Pool{}
	v4, v6, _ := p.Assign("s1", "a.example.com")
	for _, a := range []netip.Addr{
		{}, contract.Listen4, contract.Listen6, contract.FakeNet4.Addr(), v4.Next(), v6.Next(),
		netip.MustParseAddr("198.18.0.255"), netip.MustParseAddr("198.18.255.255"), netip.MustParseAddr("192.0.2.1"),
		netip.MustParseAddr("fd62:7569:6c64:18:1::2"), netip.MustParseAddr("::2"),
	} {
		if name, ok := p.Name(a); ok {
			t.Errorf("%v is %q", a, name)
		}
	}
	if _, _, ok := p.Addr("b.example.com"); ok {
		t.Error("an address for a name that nobody asked for")
	}
}

func TestPoolBudgets(t *testing.T) {
	p := &Pool{Size: 10, PerStep: 4}
	taken := func(step string) (n int) {
		for i := range 20 {
			if _, _, ok := p.Assign(step, fmt.Sprintf("%s-%d.example.com", step, i)); ok {
				n++
			}
		}
		return n
	}
	for _, tt := range []struct {
		step string
		want int
	}{{"a", 4}, {"b", 4}, {"c", 2}, {"a", 4}, {"d", 0}} {
		if got := taken(tt.step); got != tt.want {
			t.Errorf("step %s has %d names, want %d", tt.step, got, tt.want)
		}
	}
	if _, _, ok := p.Assign("d", "a-0.example.com"); !ok {
		t.Error("a known name costs a step something")
	}
}

func TestPoolConcurrent(t *testing.T) {
	p := &Pool{}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				name := fmt.Sprintf("%d.example.com", i)
				v4, v6, ok := p.Assign(fmt.Sprint(w), name)
				if !ok {
					t.Errorf("no address for %s", name)
					return
				}
				for _, a := range []netip.Addr{v4, v6} {
					if got, _ := p.Name(a); got != name {
						t.Errorf("%v is %q, want %q", a, got, name)
					}
				}
			}
		})
	}
	wg.Wait()
	if n := len(p.names); n != 2000 {
		t.Errorf("%d addresses for 2000 names", n)
	}
}

// A pool that is more than half used forgets its names when it may, and no
// address stands for a name of before.
func TestPoolRenew(t *testing.T) {
	p := Pool{Size: 4}
	first, _, _ := p.Assign("s1", "a.example")
	p.Assign("s1", "b.example")
	if p.Renew() {
		t.Error("a pool that is half empty forgot its names")
	}
	third, _, _ := p.Assign("s1", "c.example")
	if !p.Renew() {
		t.Error("a pool that is nearly full kept its names")
	}
	if _, _, ok := p.Assign("s2", "d.example"); !ok {
		t.Error("there is no address for a new name")
	}
	if name, ok := p.Name(first); !ok || name != "d.example" {
		t.Errorf("the first address stands for %q", name)
	}
	if name, ok := p.Name(third); ok {
		t.Errorf("an address that nobody was given again stands for %q", name)
	}
}
