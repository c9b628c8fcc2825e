package policy

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func compiled(t *testing.T, spec Spec) *Policy {
	t.Helper()
	p, err := Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func texts(pos string, rules ...string) []Text {
	var list []Text
	for _, r := range rules {
		list = append(list, Text{Text: r, Pos: pos})
	}
	return list
}

func TestDigest(t *testing.T) {
	yes := true
	base := func() Spec {
		return Spec{Mode: Restrict, Rules: RuleTexts{HTTPS: texts("a:1:1", "Pypi.org", "b.test")},
			Steps: []StepSpec{{Pos: "a:2:1", Run: "npm*", Lines: "12", Secrets: &yes, Rules: RuleTexts{TCP: texts("", "a:1")}}}}
	}
	want := compiled(t, base()).Digest()
	if len(want) != len("sha256:")+64 || !strings.HasPrefix(want, "sha256:") {
		t.Fatalf("digest %q", want)
	}
	for name, change := range map[string]func(*Spec){
		"position": func(s *Spec) { s.Rules.HTTPS[0].Pos = "--allow-https"; s.Steps[0].Pos = "x" },
		"spelling": func(s *Spec) { s.Rules.HTTPS[0].Text = "pypi.org.:443"; s.Steps[0].Lines = "12-12" },
		"mode":     func(s *Spec) { s.Mode = "" },
	} {
		s := base()
		change(&s)
		if got := compiled(t, s).Digest(); got != want {
			t.Errorf("%s changes the digest", name)
		}
	}
	for name, change := range map[string]func(*Spec){
		"mode":     func(s *Spec) { s.Mode = Audit },
		"ech":      func(s *Spec) { s.ECH = "allow" },
		"rule":     func(s *Spec) { s.Rules.HTTPS[1].Text = "c.test" },
		"list":     func(s *Spec) { s.Rules.HTTP, s.Rules.HTTPS = s.Rules.HTTPS, nil },
		"builder":  func(s *Spec) { s.Builder = &RuleTexts{} },
		"blocked":  func(s *Spec) { s.KnownBlocked = texts("", "x.test") },
		"private":  func(s *Spec) { s.AllowPrivate = texts("", "10.0.0.1") },
		"selector": func(s *Spec) { s.Steps[0].Run = "npm" },
		"secrets":  func(s *Spec) { s.Steps[0].Secrets = nil },
		"upload":   func(s *Spec) { s.Steps[0].MaxUpload = 1 },
		"step":     func(s *Spec) { s.Steps[0].Rules = RuleTexts{} },
	} {
		s := base()
		change(&s)
		if got := compiled(t, s).Digest(); got == want {
			t.Errorf("%s does not change the digest", name)
		}
	}
}

func TestSpecJSON(t *testing.T) {
	no := false
	spec := Spec{Mode: Audit, Rules: RuleTexts{HTTPS: texts("p:1:1", "a.test")}, Builder: &RuleTexts{},
		Steps: []StepSpec{{Secrets: &no, Rules: RuleTexts{IP: texts("p", "10.0.0.1:1")}}}, ECH: "allow"}
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	var again Spec
	if err := json.Unmarshal(data, &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(spec, again); diff != "" {
		t.Error(diff)
	}
	p := compiled(t, again)
	if !p.For(Step{Builder: true}).Restricted() {
		t.Error("an empty builder section restricts the builder to nothing")
	}
	if !p.ECHAllowed() || p.Mode() != Audit {
		t.Error("ech or mode lost")
	}
}

func TestSelectors(t *testing.T) {
	yes, no := true, false
	p := compiled(t, Spec{
		Rules: RuleTexts{HTTPS: texts("top", "all.test", "top.test")},
		Steps: []StepSpec{
			{Run: "npm ci*", Stage: "deps-?", MaxUpload: 1 << 20, Rules: RuleTexts{HTTPS: texts("0", "all.test", "npm.test")}},
			{Lines: "10-20", Secrets: &yes, MaxUpload: 10, Rules: RuleTexts{HTTPS: texts("1", "all.test")}},
			{Secrets: &no, Stage: "quiet", Network: "none"},
		},
	})
	for _, c := range []struct {
		name   string
		step   Step
		entry  int
		top    bool // top.test allowed
		all    bool // all.test allowed
		none   bool
		upload int64
	}{
		{"all selectors", Step{Command: "npm ci", Stage: "deps-1", Line: 3}, 0, false, true, false, 1 << 20},
		{"other stage", Step{Command: "npm ci", Stage: "deps-12", Line: 3}, -1, true, true, false, 0},
		{"stage in capitals", Step{Command: "npm ci", Stage: "DEPS-1", Line: 3}, 0, false, true, false, 1 << 20},
		{"multi-line command", Step{Command: "npm ci\nnpm test", Stage: "deps-1", Line: 3}, 0, false, true, false, 1 << 20},
		{"line and secret", Step{Command: "x", Stage: "b", Line: 10, Secrets: true}, 1, false, true, false, 10},
		{"line without secret", Step{Command: "x", Stage: "b", Line: 10}, -1, true, true, false, 0},
		{"last line", Step{Command: "x", Stage: "b", Line: 20, Secrets: true}, 1, false, true, false, 10},
		{"line after", Step{Command: "x", Stage: "b", Line: 21, Secrets: true}, -1, true, true, false, 0},
		{"none", Step{Command: "x", Stage: "quiet", Line: 1}, 2, false, false, true, 0},
		{"stage not known", Step{Command: "npm ci", Line: 3, Secrets: true}, -1, false, true, false, 1 << 20},
		{"line not known", Step{Command: "x", Stage: "b", Secrets: true}, -1, false, true, false, 10},
		{"nothing known", Step{}, -1, false, false, true, 10},
	} {
		s := p.For(c.step)
		allowed := func(name string) bool { return s.Judge(Target{Protocol: TLS, Name: name, Port: 443}).Allowed }
		got := []any{s.Entry(), allowed("top.test"), allowed("all.test"), s.NetworkNone(), s.MaxUpload()}
		if diff := cmp.Diff([]any{c.entry, c.top, c.all, c.none, c.upload}, got); diff != "" {
			t.Errorf("%s: entry, top, all, none, upload (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestWildcard(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"*", "", true}, {"*", "a\nb", true}, {"?", "ü", true}, {"?", "", false}, {"a*b*c", "abbbc", true},
		{"a*b*c", "acb", false}, {"*ab", "aab", true}, {"npm ci", "npm ci ", false}, {"a?c*", "abc", true}, {"**", "x", true},
		{"NPM*", "npm", false},
	} {
		if got := wildcard(c.pattern, c.text); got != c.want {
			t.Errorf("wildcard(%q, %q) = %v", c.pattern, c.text, got)
		}
	}
}

func TestExplain(t *testing.T) {
	p := compiled(t, Spec{
		Rules:        RuleTexts{HTTPS: texts("f:3:5", "pypi.org")},
		KnownBlocked: texts("f:9:1", "telemetry.test"),
		Steps:        []StepSpec{{Pos: "f:6:3", Run: "make*", Network: "none"}, {Pos: "f:7:3", Run: "npm*"}},
	})
	tls := func(name string) Target { return Target{Protocol: TLS, Name: name, Port: 443} }
	for _, c := range []struct {
		step             Step
		target           Target
		text, line, flag string
	}{
		{Step{Command: "x"}, tls("pypi.org"), `pypi.org:443 (tls): allowed by "pypi.org" (f:3:5)`, "", ""},
		{Step{Command: "x"}, tls("a.test"), `a.test:443 (tls): refused: no rule`,
			"allowed_https_rules: a.test:443", "--allow-https a.test:443"},
		{Step{Command: "x"}, tls("telemetry.test"), `telemetry.test:443 (tls): refused, as expected, by "telemetry.test" (f:9:1)`, "", ""},
		{Step{Command: "make"}, tls("pypi.org"), `pypi.org:443 (tls): refused: network: none (f:6:3)`, "", ""},
		{Step{Command: "npm ci"}, tls("pypi.org"), `pypi.org:443 (tls): refused: no rule (f:7:3)`,
			"allowed_https_rules: pypi.org:443", "--allow-https pypi.org:443"},
		{Step{Builder: true}, tls("pypi.org"), `pypi.org:443 (tls): allowed: not restricted`, "", ""},
		{Step{Command: "x"}, Target{Protocol: IP, Addr: netip.MustParseAddr("2001:db8::1"), Port: 443},
			`[2001:db8::1]:443 (ip): refused: no rule`,
			`allowed_ip_rules: "[2001:db8::1]:443"`, "--allow-ip '[2001:db8::1]:443'"},
	} {
		e := p.For(c.step).Explain(c.target)
		if diff := cmp.Diff([]string{c.text, c.line, c.flag}, []string{e.String(), e.Line(), e.Flag()}); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.target, diff)
		}
	}
}

// Lacking names every section that refuses, and none where no rule helps.
func TestLacking(t *testing.T) {
	spec := Spec{
		Rules: RuleTexts{HTTPS: texts("", "top.test", "both.test")},
		Steps: []StepSpec{
			{Run: "make*", Network: "none"},
			{Stage: "deps", Rules: RuleTexts{HTTPS: texts("", "both.test")}},
		},
		Builder: &RuleTexts{},
	}
	p := compiled(t, spec)
	tls := func(name string) Target { return Target{Protocol: TLS, Name: name, Port: 443} }
	for _, c := range []struct {
		step   Step
		target Target
		want   []int
	}{
		{Step{Command: "x", Stage: "deps"}, tls("top.test"), []int{1}},
		{Step{Command: "x", Stage: "deps"}, tls("both.test"), nil},
		{Step{Command: "x", Stage: "other"}, tls("a.test"), []int{-1}},
		{Step{Command: "x"}, tls("a.test"), []int{1, -1}},
		{Step{Command: "x"}, tls("top.test"), []int{1}},
		{Step{Command: "make"}, tls("a.test"), nil},
		{Step{Builder: true}, tls("a.test"), []int{-1}},
		{Step{Command: "x", Stage: "deps"}, tls("*.test"), nil},
		{Step{Command: "x", Stage: "deps"}, Target{}, nil},
	} {
		if diff := cmp.Diff(c.want, p.For(c.step).Lacking(c.target)); diff != "" {
			t.Errorf("%+v to %v (-want +got):\n%s", c.step, c.target, diff)
		}
	}
}

// A suggestion allows its target, and nothing else of a near kind.
func TestSuggest(t *testing.T) {
	targets := []Target{
		{Protocol: TLS, Name: "a.test", Port: 443}, {Protocol: TLS, Name: "a.test", Port: 8443},
		{Protocol: HTTP, Name: "a.test", Port: 80}, {Protocol: TCP, Name: "a.test", Port: 443},
		{Protocol: TCP, Name: "_x.y", Port: 22}, {Protocol: TLS, Name: "x.a.test", Port: 443},
		{Protocol: IP, Addr: netip.MustParseAddr("192.0.2.1"), Port: 443},
		{Protocol: IP, Addr: netip.MustParseAddr("2001:db8::1"), Port: 443},
		{Protocol: IP, Addr: netip.MustParseAddr("192.0.2.2"), Port: 443},
	}
	for i, target := range targets {
		list, rule := Suggest(target)
		var spec Spec
		*spec.Rules.Of(list) = texts("", rule)
		scope := compiled(t, spec).For(Step{Command: "x"})
		for k, other := range targets {
			if got := scope.Judge(other).Allowed; got != (i == k) {
				t.Errorf("%s: %s allows %s %v: %v", list, rule, other.Protocol, other, got)
			}
		}
	}
	if list, rule := Suggest(Target{Protocol: TLS, Name: "A.test", Port: 443}); list != "" || rule != "" {
		t.Errorf("suggests %s %s for a name that is not canonical", list, rule)
	}
}

func TestSplit(t *testing.T) {
	got := Split(" a.test\r\n\t~b\\.test:443  {x} \n")
	want := []Field{{"a.test", 1}, {"~b\\.test:443", 10}, {"{x}", 24}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if Split(" \n\t") != nil {
		t.Error("white space has no rules")
	}
}

func TestSingleLabel(t *testing.T) {
	if !SingleLabel("localhost") || SingleLabel("a.b") || SingleLabel("") {
		t.Error("single label")
	}
}
