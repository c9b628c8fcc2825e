package cli

import (
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/internal/report"
)

// Who builds before there is a policy learns how to get one; nobody else does.
func TestTip(t *testing.T) {
	refused, clean := &report.Report{}, &report.Report{}
	refused.Totals.Refusals = 1
	rules := policy.Spec{Rules: policy.RuleTexts{TCP: []policy.Text{{Text: "git.example.com:22"}}}}
	for name, c := range map[string]struct {
		mode   policy.Mode
		file   policyFile
		report *report.Report
		want   bool
	}{
		"no policy":     {policy.Restrict, policyFile{}, refused, true},
		"a file":        {policy.Restrict, policyFile{path: "buildcage.yaml"}, refused, false},
		"flags":         {policy.Restrict, policyFile{spec: rules}, refused, false},
		"nothing there": {policy.Restrict, policyFile{}, clean, false},
		"an audit":      {policy.Audit, policyFile{}, refused, false},
	} {
		b := &build{mode: c.mode, policy: &c.file}
		if tip := b.tip(c.report); strings.Contains(tip, "buildcage audit --write") != c.want {
			t.Errorf("%s: %q", name, tip)
		}
	}
}
