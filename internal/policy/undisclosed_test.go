package policy

import "testing"

// A step that may have secrets does only what is allowed with and without.
func TestUndisclosedSecretsNarrow(t *testing.T) {
	with := true
	rule := func(hosts ...string) (texts RuleTexts) {
		for _, h := range hosts {
			texts.HTTPS = append(texts.HTTPS, Text{Text: h})
		}
		return texts
	}
	p, err := Compile(Spec{
		Rules: rule("both.example", "open.example"),
		Steps: []StepSpec{{Secrets: &with, Rules: rule("both.example", "vault.example")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		step              Step
		both, open, vault bool
	}{
		{Step{Command: "x"}, true, true, false},
		{Step{Command: "x", Secrets: true}, true, false, true},
		{Step{Command: "x", Undisclosed: true}, true, false, false},
		{Step{Command: "x", Secrets: true, Undisclosed: true}, true, false, false},
	} {
		scope := p.For(tc.step)
		for host, want := range map[string]bool{"both.example": tc.both, "open.example": tc.open, "vault.example": tc.vault} {
			if got := scope.Judge(Target{Protocol: TLS, Name: host, Port: 443}).Allowed; got != want {
				t.Errorf("%+v: %s allowed %v, want %v", tc.step, host, got, want)
			}
		}
	}
}
