package policy

import (
	"net/netip"
	"testing"
)

// An intersection allows a target exactly when each of its scopes does, and is
// never more lenient in anything else.
func TestIntersect(t *testing.T) {
	text := func(hosts ...string) (texts []Text) {
		for _, h := range hosts {
			texts = append(texts, Text{Text: h})
		}
		return texts
	}
	specs := []Spec{
		{Rules: RuleTexts{HTTPS: text("both.example", "a.example"), TCP: text("git.example:22")}},
		{Rules: RuleTexts{HTTPS: text("both.example", "b.example"), IP: text("10.0.0.1:443")}, AllowPrivate: text("10.0.0.0/8")},
		{Mode: Audit, Rules: RuleTexts{HTTPS: text("b.example")}},
		{Rules: RuleTexts{HTTPS: text("**.example", "both.example")}, KnownBlocked: text("a.example")},
		{Steps: []StepSpec{{Run: "make", Network: "none"}}},
		{Steps: []StepSpec{{Run: "make", MaxUpload: 7, Rules: RuleTexts{HTTPS: text("both.example")}}}},
	}
	var scopes []*Scope
	for _, spec := range specs {
		p, err := Compile(spec)
		if err != nil {
			t.Fatal(err)
		}
		scopes = append(scopes, p.For(Step{Command: "make"}), p.For(Step{Builder: true}))
	}
	private := netip.MustParseAddrPort("10.0.0.1:443")
	targets := []Target{
		{Protocol: TLS, Name: "both.example", Port: 443}, {Protocol: TLS, Name: "a.example", Port: 443},
		{Protocol: TLS, Name: "b.example", Port: 443}, {Protocol: TCP, Name: "git.example", Port: 22},
		{Protocol: IP, Addr: private.Addr(), Port: 443}, {Protocol: TLS, Name: "none.example", Port: 443},
	}
	for i, a := range scopes {
		for j, b := range scopes {
			both := Intersect(a, b, a)
			for _, target := range targets {
				da, db, d := a.Judge(target), b.Judge(target), both.Judge(target)
				if d.Allowed != (da.Allowed && db.Allowed) {
					t.Errorf("%d and %d: %s %s: %+v, alone %+v and %+v", i, j, target.Protocol, target, d, da, db)
				}
				if both.Match(target) != nil && !d.Allowed {
					t.Errorf("%d and %d: %s matches and is refused", i, j, target)
				}
				if part := both.Refusing(target); !d.Allowed && part.Judge(target).Allowed {
					t.Errorf("%d and %d: %s is refused by nobody", i, j, target)
				}
			}
			switch {
			case both.NetworkNone() != (a.NetworkNone() || b.NetworkNone()):
				t.Errorf("%d and %d: network none %v", i, j, both.NetworkNone())
			case both.Lenient() != (a.Lenient() && b.Lenient()):
				t.Errorf("%d and %d: lenient %v", i, j, both.Lenient())
			case both.Restricted() != (a.Restricted() || b.Restricted()):
				t.Errorf("%d and %d: restricted %v", i, j, both.Restricted())
			case (a.MaxUpload() > 0 || b.MaxUpload() > 0) != (both.MaxUpload() > 0):
				t.Errorf("%d and %d: limit %d", i, j, both.MaxUpload())
			case both.ECHAllowed() && !(a.ECHAllowed() && b.ECHAllowed()):
				t.Errorf("%d and %d: ech", i, j)
			}
			strict := !a.Lenient() && !b.Lenient()
			if strict && both.PrivateAllowed(private) != (a.PrivateAllowed(private) && b.PrivateAllowed(private)) {
				t.Errorf("%d and %d: private %v", i, j, both.PrivateAllowed(private))
			}
		}
	}
}
