package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/policy"
)

func list(rules ...string) []policy.Text {
	var texts []policy.Text
	for _, r := range rules {
		texts = append(texts, policy.Text{Text: r, Pos: "observed"})
	}
	return texts
}

// additions is what every golden file gets.
func additions() Additions {
	return Additions{
		Rules: policy.RuleTexts{
			HTTPS: list("zz.test:443", "aa.test:8443", "known.test:443", "0day.test:443", "sub.wild.test:443", "telemetry.test:443", "aa.test:8443"),
			HTTP:  list("plain.test:80"),
			TCP:   list("git.test:22"),
			IP:    list("192.0.2.1:443", "[2001:db8::1]:443", "10.1.2.3:5432"),
		},
		AllowPrivate: list("10.1.2.3", "10.2.2.2"),
		Builder:      policy.RuleTexts{HTTPS: list("registry.test:443", "known.test:443")},
	}
}

// Each testdata/merge/*.yaml becomes what stands beside it.
func TestMerge(t *testing.T) {
	files, err := filepath.Glob("testdata/merge/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := merged(t, data, additions())
			golden(t, strings.TrimSuffix(file, ".yaml")+".golden", string(got))
		})
	}
}

// merged merges and proves what Merge promises: the old text is still there,
// the new rules are allowed, a second merge changes nothing, and nothing that was
// refused before is allowed now but for the additions.
func merged(t *testing.T, data []byte, add Additions) []byte {
	t.Helper()
	got, err := Merge(data, Name, add)
	if err != nil {
		t.Fatal(err)
	}
	if !subsequence(string(data), string(got)) {
		t.Errorf("something of the old file is gone:\n%s", got)
	}
	again, err := Merge(got, Name, add)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), string(again)); diff != "" {
		t.Errorf("a second merge adds more:\n%s", diff)
	}
	old := Default()
	if strings.Contains(string(data), "version") {
		if old, err = Load(Name, data); err != nil {
			t.Fatal(err)
		}
	}
	now, err := Load(Name, got)
	if err != nil {
		t.Fatal(err)
	}
	sections := [][2]*policy.RuleTexts{{&old.Spec.Rules, &now.Spec.Rules}}
	adds := []policy.RuleTexts{add.Rules}
	if now.Spec.Builder != nil {
		before := old.Spec.Builder
		if before == nil {
			before = &policy.RuleTexts{}
		}
		sections, adds = append(sections, [2]*policy.RuleTexts{before, now.Spec.Builder}), append(adds, add.Builder)
	}
	for i, section := range sections {
		for _, l := range policy.AllowLists() {
			union(t, l, *section[0].Of(l), *section[1].Of(l), *adds[i].Of(l), old.Spec.KnownBlocked)
		}
	}
	if diff := cmp.Diff(old.Spec.Steps, now.Spec.Steps, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Pos" }, cmp.Ignore())); diff != "" {
		t.Errorf("steps changed:\n%s", diff)
	}
	return got
}

// union checks that now is old and then, in order, only what add asked for,
// and that every added rule is covered by now or refused by blocked.
func union(t *testing.T, l policy.List, old, now, add, blocked []policy.Text) {
	t.Helper()
	added := slices.Clone(now)
	for _, o := range old {
		at := slices.IndexFunc(added, func(n policy.Text) bool { return n.Text == o.Text })
		if at < 0 {
			t.Fatalf("%s: rule %q is gone or has moved: %v, now %v", l, o.Text, old, now)
		}
		added = slices.Delete(added, at, at+1)
	}
	kept := slices.DeleteFunc(slices.Clone(now), func(n policy.Text) bool {
		return !slices.ContainsFunc(old, func(o policy.Text) bool { return o.Text == n.Text })
	})
	for i := range min(len(old), len(kept)) {
		if len(kept) == len(old) && old[i].Text != kept[i].Text {
			t.Fatalf("%s: the old rules have another order: %v, now %v", l, old, now)
		}
	}
	wanted := map[string]bool{}
	for _, r := range parsed(l, add) {
		wanted[r.String()] = true
		if !covered(r, parsed(l, now)) && !covered(r, parsed(policy.BlockedRules, blocked)) {
			t.Errorf("%s: %s is not allowed now", l, r)
		}
	}
	for _, r := range parsed(l, added) {
		if !wanted[r.String()] || covered(r, parsed(l, old)) {
			t.Errorf("%s: %s was not asked for", l, r)
		}
	}
}

func subsequence(old, now string) bool {
	i := 0
	for k := 0; k < len(now) && i < len(old); k++ {
		if now[k] == old[i] {
			i++
		}
	}
	return i == len(old)
}

func TestMergeSteps(t *testing.T) {
	const file = "version: 1\nsteps:\n  - run: npm*\n    allowed_https_rules: [a.test]\n  - run: x # last\n  # end\n"
	add := Additions{Steps: map[int]policy.RuleTexts{0: {HTTPS: list("b.test:443")}, 1: {TCP: list("git.test:22")}}}
	got, err := Merge([]byte(file), Name, add)
	if err != nil {
		t.Fatal(err)
	}
	want := "version: 1\nsteps:\n  - run: npm*\n    allowed_https_rules: [a.test, b.test:443]\n" +
		"  - run: x # last\n    allowed_tcp_rules:\n      - git.test:22\n  # end\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	add.Steps = map[int]policy.RuleTexts{2: {}}
	if _, err := Merge([]byte(file), Name, add); err == nil {
		t.Error("added to a step that is not there")
	}
}

// Merge takes rules that name one destination and nothing else.
func TestMergeNarrow(t *testing.T) {
	for _, rule := range []string{"*.a.test:443", "a.test:*", "a.test:1-2", "a.test:{1,2}", "~a:443", "bad..name:443"} {
		_, err := Merge(nil, Name, Additions{Rules: policy.RuleTexts{HTTPS: list(rule)}})
		var one *policy.Error
		if !errors.As(err, &one) {
			t.Errorf("%s: %v", rule, err)
		}
	}
	for _, add := range []Additions{
		{Rules: policy.RuleTexts{IP: list("10.0.0.0/8:443")}}, {AllowPrivate: list("10.0.0.0/8")},
		{Builder: policy.RuleTexts{TCP: list("**:22")}},
	} {
		if _, err := Merge(nil, Name, add); err == nil {
			t.Errorf("merged %+v", add)
		}
	}
	if _, err := Merge([]byte("version: 3\n"), Name, Additions{}); err == nil {
		t.Error("merged into a file that does not load")
	}
}

func FuzzMerge(f *testing.F) {
	files, _ := filepath.Glob("testdata/merge/*.yaml")
	for _, file := range append(files, example) {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data), "a.test", uint16(443), "10.0.0.7")
	}
	f.Fuzz(func(t *testing.T, text, name string, port uint16, addr string) {
		if _, err := Load(Name, []byte(text)); err != nil {
			return
		}
		if _, ok := policy.CanonicalName(name); !ok || port == 0 {
			return
		}
		rule := policy.Target{Protocol: policy.TLS, Name: strings.ToLower(strings.TrimSuffix(name, ".")), Port: port}.String()
		add := Additions{Rules: policy.RuleTexts{HTTPS: list(rule, "x."+rule), TCP: list(rule)}, Builder: policy.RuleTexts{HTTP: list(rule)}}
		if _, err := policy.Parse(policy.HTTPSRules, policy.Text{Text: "x." + rule}); err != nil {
			return
		}
		if _, err := policy.Parse(policy.PrivateRules, policy.Text{Text: addr}); err == nil && !strings.Contains(addr, "/") {
			add.AllowPrivate = list(addr)
		}
		merged(t, []byte(text), add)
	})
}
