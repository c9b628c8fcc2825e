package config

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/policy"
)

var update = flag.Bool("update", false, "write the golden files")

const example = "../../buildcage.yaml.example"

func TestExample(t *testing.T) {
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load(Name, data)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Compile(c.Spec)
	if err != nil {
		t.Fatal(err)
	}
	step := p.For(policy.Step{Command: "pip install", Stage: "app", Line: 3})
	npm := p.For(policy.Step{Command: "npm ci", Stage: "deps", Line: 3, Secrets: true})
	for _, c := range []struct {
		scope  *policy.Scope
		target policy.Target
		want   bool
	}{
		{step, policy.Target{Protocol: policy.TLS, Name: "pypi.org", Port: 443}, true},
		{step, policy.Target{Protocol: policy.TLS, Name: "raw.githubusercontent.com", Port: 443}, true},
		{step, policy.Target{Protocol: policy.TLS, Name: "a.b.githubusercontent.com", Port: 443}, false},
		{step, policy.Target{Protocol: policy.TLS, Name: "a.b.example.com", Port: 8443}, true},
		{step, policy.Target{Protocol: policy.TLS, Name: "eu-7.example.net", Port: 443}, true},
		{step, policy.Target{Protocol: policy.TLS, Name: "telemetry.example.com", Port: 443}, false},
		{step, policy.Target{Protocol: policy.HTTP, Name: "archive.ubuntu.com", Port: 80}, true},
		{step, policy.Target{Protocol: policy.TCP, Name: "github.com", Port: 22}, true},
		{step, policy.Target{Protocol: policy.IP, Addr: netip.MustParseAddr("2001:db8::5"), Port: 8001}, true},
		{npm, policy.Target{Protocol: policy.TLS, Name: "npm.example.com", Port: 443}, true},
		{npm, policy.Target{Protocol: policy.TLS, Name: "pypi.org", Port: 443}, false},
	} {
		if got := c.scope.Judge(c.target).Allowed; got != c.want {
			t.Errorf("%s %v: %v", c.target.Protocol, c.target, got)
		}
	}
	if npm.MaxUpload() != 1<<20 || !p.PrivateAllowed(netip.MustParseAddr("10.1.2.3")) {
		t.Error("max_upload or allow_private lost")
	}
	if !p.For(policy.Step{Command: "npm rebuild x", Stage: "deps", Line: 1}).NetworkNone() {
		t.Error("network: none lost")
	}
	if got := p.For(policy.Step{Command: "true"}).Judge(policy.Target{Protocol: policy.TLS, Name: "pypi.org", Port: 443}); got.Pos != Name+":11:5" {
		t.Errorf("pypi.org stands at %s", got.Pos)
	}
}

// The files in the documentation load.
func TestDocumentation(t *testing.T) {
	data, err := os.ReadFile("../../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(data), "```yaml\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("no file in docs/rules.md")
	}
	for _, block := range blocks {
		text, _, _ := strings.Cut(block, "```")
		if _, err := Load(Name, []byte(text)); err != nil {
			t.Errorf("%v in:\n%s", err, text)
		}
	}
}

// Each testdata/errors/*.yaml has the errors it gives, with hints, beside it.
func TestErrors(t *testing.T) {
	files, err := filepath.Glob("testdata/errors/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Load(Name, data)
			golden(t, strings.TrimSuffix(file, ".yaml")+".golden", errorText(t, err))
		})
	}
}

func errorText(t *testing.T, err error) string {
	t.Helper()
	var errs policy.Errors
	if !errors.As(err, &errs) || len(errs) == 0 {
		t.Fatalf("error is %v", err)
	}
	var b strings.Builder
	for _, e := range errs {
		if e.Hint() == "" || strings.Contains(e.Hint(), "\n") || strings.Contains(e.Error(), "\n") {
			t.Errorf("not one line with one hint: %q %q", e.Error(), e.Hint())
		}
		if line, column := lineColumn(e.Pos); line < 1 || column < 1 || !strings.HasPrefix(e.Pos, Name+":") {
			t.Errorf("position %q", e.Pos)
		}
		b.WriteString(e.Error() + "\n\t" + e.Hint() + "\n")
	}
	return b.String()
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// Positions are those of the rules, in every style of string.
func TestPositions(t *testing.T) {
	for name, c := range map[string]struct{ yaml, want string }{
		"list":         {"allowed_https_rules:\n  - a.test\n  -   \"b.test\"\n", "2:5 3:7"},
		"flow":         {"allowed_https_rules: [a.test, 'b.test',\n   c.test]\n", "1:23 1:31 2:4"},
		"plain":        {"allowed_https_rules: a.test  b.test\n  c.test\n", "1:22 1:30 2:3"},
		"single":       {"allowed_https_rules: ' a.test\n\n  ~b''c.test c.test'\n", "1:24 3:3 3:14"},
		"double":       {"allowed_https_rules: \"~a\\\\.b\\x41:443 c.test\\nd.test \\\n    e.test\"\n", "1:23 1:38 1:46 2:5"},
		"literal":      {"allowed_https_rules: |\n  a.test b.test\n\n  c.test\n", "2:3 2:10 4:3"},
		"folded":       {"allowed_https_rules: >-  # a comment\n    a.test\n    b.test\n", "2:5 3:5"},
		"crlf":         {"allowed_https_rules: |\r\n  a.test\r\n  b.test\r\n", "2:3 3:3"},
		"after umlaut": {"\"allowed_https_rules\": [\"a.test\"] # ü\nallowed_http_rules: b.test # ü\n", "1:25"},
		"nothing":      {"allowed_https_rules: \" \"\n", ""},
	} {
		for _, bom := range []string{"", "\ufeff"} {
			cfg, err := Load("f", []byte(bom+c.yaml+"version: 1\n"))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			var got []string
			for _, text := range cfg.Spec.Rules.HTTPS {
				got = append(got, strings.TrimPrefix(text.Pos, "f:"))
			}
			if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{
		"1": 1, "500kB": 500000, "1MiB": 1 << 20, "2 GiB": 2 << 30, "3KB": 3000, "7B": 7, "1TB": 1e12,
		"0": 0, "-1": 0, "+1": 0, "1.5MiB": 0, "MiB": 0, "": 0, "1mib": 0, "9999999TiB": 0, "1  kB": 0, "1k": 0,
	} {
		if got, ok := parseSize(text); got != want || ok != (want > 0) {
			t.Errorf("%q: %d %v", text, got, ok)
		}
	}
}

// Flags reach the steps with rules of their own too, but open no network: none
// and nothing for the builder.
func TestAllowEverywhere(t *testing.T) {
	cfg, err := Load(Name, []byte("version: 1\nsteps:\n  - run: a\n    allowed_https_rules: [own.test]\n  - run: b\n    network: none\n  - run: c\nbuilder: {}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.Allow(policy.HTTPSRules, "flag.test"); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Compile(cfg.Spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		step policy.Step
		want bool
	}{
		{policy.Step{Command: "a"}, true}, {policy.Step{Command: "b"}, false}, {policy.Step{Command: "c"}, true},
		{policy.Step{Command: "d"}, true}, {policy.Step{}, false}, {policy.Step{Builder: true}, false},
	} {
		if d := p.For(c.step).Judge(policy.Target{Protocol: policy.TLS, Name: "flag.test", Port: 443}); d.Allowed != c.want {
			t.Errorf("step %+v: allowed %t", c.step, d.Allowed)
		}
	}
}

func TestAllow(t *testing.T) {
	c := Default()
	if err := c.Allow(policy.HTTPSRules, "a.test b.test:8443"); err != nil {
		t.Fatal(err)
	}
	want := []policy.Text{{Text: "a.test", Pos: "--allow-https"}, {Text: "b.test:8443", Pos: "--allow-https"}}
	if diff := cmp.Diff(want, c.Spec.Rules.HTTPS); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]string{
		"c.test d..test": `--allow-https: rule "d..test": empty label`,
		" ":              "--allow-https: no rule",
	} {
		if err := c.Allow(policy.HTTPSRules, text); err == nil || err.Error() != want {
			t.Errorf("%q: %v", text, err)
		}
	}
	if len(c.Spec.Rules.HTTPS) != 2 {
		t.Error("a refused flag has added rules")
	}
	if err := c.Allow(policy.BlockedRules, "a.test"); err == nil {
		t.Error("known_blocked_rules allow something")
	}
}

func TestExpect(t *testing.T) {
	c := Default()
	if err := c.Expect("a.test *.b.test:443"); err != nil {
		t.Fatal(err)
	}
	want := []policy.Text{{Text: "a.test", Pos: "--known-blocked"}, {Text: "*.b.test:443", Pos: "--known-blocked"}}
	if diff := cmp.Diff(want, c.Spec.KnownBlocked); diff != "" {
		t.Error(diff)
	}
	if err := c.Expect("c.test d..test"); err == nil || len(c.Spec.KnownBlocked) != 2 {
		t.Errorf("a bad rule: %v, %v", err, c.Spec.KnownBlocked)
	}
}

func TestFind(t *testing.T) {
	ctx, work := t.TempDir(), t.TempDir()
	check := func(want string) {
		t.Helper()
		if got, err := Find(ctx, work); err != nil || got != want {
			t.Errorf("found %q, %v; want %q", got, err, want)
		}
	}
	write := func(path string) string {
		t.Helper()
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	check("")
	inWork := write(filepath.Join(work, Name))
	check(inWork)
	check2, err := Find("", work)
	if err != nil || check2 != inWork {
		t.Errorf("without context: %q, %v", check2, err)
	}
	check(func() string { return write(filepath.Join(ctx, Name)) }())
	other := t.TempDir()
	write(filepath.Join(other, "buildcage.yml"))
	if path, err := Find(other, work); err == nil {
		t.Errorf("passed over buildcage.yml for %q", path)
	}
}

// Load never panics, and what it refuses has positions.
func FuzzLoad(f *testing.F) {
	for _, dir := range []string{"testdata/errors/*.yaml", "testdata/merge/*.yaml", example} {
		files, _ := filepath.Glob(dir)
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(data))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Load(Name, []byte(text))
		if err != nil {
			errorText(t, err)
			return
		}
		if _, err := policy.Compile(c.Spec); err != nil {
			t.Fatal(err)
		}
	})
}
