package config

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/buildcage/buildcage/internal/policy"
)

func entries() []Entry {
	return []Entry{
		{Run: "npm ci", Comment: "Dockerfile:12, stage deps", Rules: policy.RuleTexts{HTTPS: list("npm.test:443", "0day.test:443")}},
		{Run: "cat <<E\n\t\"q\" \\ # 'x' {y}: [z] \u00fc\u2028 %\nE", Rules: policy.RuleTexts{TCP: list("git.test:22"), IP: list("[2001:db8::1]:443")}},
		{Run: "only known", Rules: policy.RuleTexts{HTTPS: list("telemetry.test:443")}},
	}
}

// Every file takes new entries: the old text stays, the old entries keep their
// places, the new ones read back as they were given, and once is enough.
func TestMergeEntries(t *testing.T) {
	files, err := filepath.Glob("testdata/merge/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range append(files, "") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			var data []byte
			old := Default()
			if file != "" {
				if data, err = os.ReadFile(file); err != nil {
					t.Fatal(err)
				}
				if cfg, err := Load(Name, data); err == nil { // else: comments only
					old = cfg
				}
			}
			blocked := parsed(policy.BlockedRules, old.Spec.KnownBlocked)
			want := slices.Clone(old.Spec.Steps)
			add := Additions{Entries: entries(), Steps: map[int]policy.RuleTexts{}}
			for i := range want { // existing entries grow at the same time
				if want[i].Network == "" {
					add.Steps[i] = policy.RuleTexts{HTTPS: list("zz.test:443")}
					if !covered(parsed(policy.HTTPSRules, list("zz.test:443"))[0], parsed(policy.HTTPSRules, want[i].Rules.HTTPS)) {
						want[i].Rules.HTTPS = append(want[i].Rules.HTTPS, list("zz.test:443")...)
					}
				}
			}
			for _, e := range entries() {
				if e.Run == "only known" && len(blocked) > 0 {
					continue
				}
				want = append(want, policy.StepSpec{Run: e.Run, Rules: e.Rules})
			}
			got, err := Merge(data, Name, add)
			if err != nil {
				t.Fatal(err)
			}
			if !subsequence(string(data), string(got)) {
				t.Errorf("something of the old file is gone:\n%s", got)
			}
			now, err := Load(Name, got)
			if err != nil {
				t.Fatal(err)
			}
			sorted := cmpopts.SortSlices(func(a, b policy.Text) bool { return a.Text < b.Text })
			if diff := cmp.Diff(want, now.Spec.Steps, cmpopts.IgnoreFields(policy.StepSpec{}, "Pos"), cmpopts.IgnoreFields(policy.Text{}, "Pos"), sorted); diff != "" {
				t.Errorf("steps (-want +got):\n%s\n%s", diff, got)
			}
			again, err := Merge(got, Name, add)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(got), string(again)); diff != "" {
				t.Errorf("a second merge adds more:\n%s", diff)
			}
		})
	}
}

// What a new file looks like.
func TestMergeEntriesText(t *testing.T) {
	got, err := Merge(nil, Name, Additions{Entries: entries()})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/entries.golden", string(got))
}
