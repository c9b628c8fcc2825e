package tenant_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/buildcage/buildcage/internal/cage/tenant"
)

func TestTable(t *testing.T) {
	var table tenant.Table
	house := &tenant.Tenant{ID: "house", Trace: tenant.NewTrace()}
	if err := table.Add(house); err != nil {
		t.Fatal(err)
	}
	if table.Of("never heard of") != house {
		t.Error("the only tenant does not own a build")
	}
	guest := &tenant.Tenant{ID: "guest", Trace: tenant.NewTrace()}
	if err := table.Add(guest); err != nil {
		t.Fatal(err)
	}
	if err := table.Add(&tenant.Tenant{ID: "guest"}); !errors.Is(err, tenant.ErrTaken) {
		t.Errorf("a second guest: %v", err)
	}
	if table.Of("unknown") != nil || table.ByTrace("") != nil || table.ByTrace("x") != nil {
		t.Error("somebody owns what is not known")
	}
	if table.ByTrace(guest.Trace) != guest || table.ByTrace(house.Trace) != house {
		t.Error("a trace does not lead to its tenant")
	}
	if !table.Claim("g", guest) || table.Claim("g", house) || table.Of("g") != guest {
		t.Error("a build changed hands")
	}
	table.Remove(guest)
	if table.Claim("g", house) || table.Of("g") != nil || table.ByTrace(guest.Trace) != nil {
		t.Error("a build of a tenant that left was taken over")
	}
	for i := range tenant.Most {
		_ = table.Add(&tenant.Tenant{ID: fmt.Sprint(i)})
	}
	if err := table.Add(&tenant.Tenant{ID: "one more"}); !errors.Is(err, tenant.ErrFull) {
		t.Errorf("one more: %v", err)
	}
	for i := range 20_000 { // the table stays bounded and goes on taking builds
		if !table.Claim(fmt.Sprintf("r%d", i), house) {
			t.Fatalf("build %d has no owner", i)
		}
	}
}

// Whoever speaks of ever more builds forgets its own, and nobody else's: what
// is forgotten can be claimed.
func TestClaimFlood(t *testing.T) {
	var table tenant.Table
	victim, flood := &tenant.Tenant{ID: "victim"}, &tenant.Tenant{ID: "flood"}
	for _, one := range []*tenant.Tenant{victim, flood} {
		if err := table.Add(one); err != nil {
			t.Fatal(err)
		}
	}
	table.Claim("mine", victim)
	for i := range 40_000 {
		if !table.Claim(fmt.Sprintf("r%d", i), flood) {
			t.Fatalf("build %d is not its own", i)
		}
	}
	if table.Claim("mine", flood) || table.Of("mine") != victim {
		t.Error("another's build was taken over")
	}
	if table.Of("r0") != nil {
		t.Error("nothing is forgotten")
	}
	if !table.Claim("next", victim) {
		t.Error("no room for others")
	}
}
