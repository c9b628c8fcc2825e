package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/policy"
)

func https(rules ...string) Additions {
	return Additions{Rules: policy.RuleTexts{HTTPS: list(rules...)}}
}

func grow(t *testing.T, file string, add Additions) string {
	t.Helper()
	out, err := Merge([]byte(file), Name, add)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestUnion: audits that saw different hosts make the union and nothing wider,
// whatever their order.
func TestUnion(t *testing.T) {
	one, two := https("b.test:443", "d.test:443", "e.test:8443"), https("a.test:443", "c.test:443", "d.test:443")
	first := grow(t, grow(t, "", one), two)
	if second := grow(t, grow(t, "", two), one); first != second {
		t.Errorf("the order of audits shows:\n%s", cmp.Diff(first, second))
	}
	cfg, err := Load(Name, []byte(first))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range cfg.Spec.Rules.HTTPS {
		got = append(got, r.Text)
	}
	want := []string{"a.test:443", "b.test:443", "c.test:443", "d.test:443", "e.test:8443"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if again := grow(t, first, two); again != first {
		t.Errorf("a third audit adds what is there:\n%s", cmp.Diff(first, again))
	}
}

func TestSorted(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"sorted": {
			"  - a.test # first\n  - c.test:443\n  # end\n",
			"  - a.test # first\n  - b.test:443\n  - c.test:443\n  - d.test:443\n  # end\n",
		},
		"one, with a comment above": {
			"  # why\n  - c.test\n",
			"  - b.test:443\n  # why\n  - c.test\n  - d.test:443\n",
		},
		"not sorted": {"  - z.test\n  - a.test\n", "  - z.test\n  - a.test\n  - b.test:443\n  - d.test:443\n"},
		"groups":     {"  - a.test\n  # node\n  - c.test\n", "  - a.test\n  # node\n  - c.test\n  - b.test:443\n  - d.test:443\n"},
	} {
		t.Run(name, func(t *testing.T) {
			const head = "version: 1\nallowed_https_rules:\n"
			got := grow(t, head+tc.in, https("d.test:443", "b.test:443"))
			if diff := cmp.Diff(head+tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSeen(t *testing.T) {
	add := https("b.test:443", "c.test:443", "d.test:443")
	add.Seen = map[string]string{
		"b.test:443": "npm ci, 2026-01-02",
		"c.test:443": "x\n  - \"**\"\u2028\x1b[31m" + strings.Repeat("y", 100),
	}
	const want = `version: 1
allowed_https_rules:
  - a.test
  - b.test:443 # seen: npm ci, 2026-01-02
  - c.test:443 # seen: x?  - "**"??[31myyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy...
  - d.test:443
`
	if diff := cmp.Diff(want, grow(t, "version: 1\nallowed_https_rules:\n  - a.test\n", add)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	flow := grow(t, "version: 1\nallowed_https_rules: [a.test]\n", add)
	if strings.Contains(flow, "seen") {
		t.Errorf("a comment in a flow list:\n%s", flow)
	}
}
