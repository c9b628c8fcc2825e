package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/event"
)

// hostileTexts are what a build may call things to be more than text somewhere.
func hostileTexts() []string {
	return []string{
		"\x1b[2J\x1b]8;;https://evil.example\x07click\x1b]8;;\x07", "\x9b31m\x90", "a\r\nb\x00c\x7f",
		"\u202eevil\u2066\u200b\u2028\u0085", "\xff\xfe\xc0\xaf",
		"|a|b|", "x\\|y|", "`code` ``` ````", "`", "```\n# head\n", "[link](https://evil.example)", "![img](https://evil.example/i.png)",
		"<https://evil.example>", "www.evil.example https://evil.example user@evil.example", "*a*", "<b>x", "`[l](https://evil.example)`", "``<img src=x>", "x | [l](https://evil.example) | y", "a@b.co", "www.evil.co", "*a* _b_ ~~c~~ #1 @octocat $x$ :smile:",
		"</details></code></pre><h1>x</h1>", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"'><svg onload=alert(1)>", "&lt;b&gt;&#60;b&#62;&amp;", "{{.}} {0} ${x} $(x)", "</style><style>*{}",
		"::error::pwned", "%0A::error::pwned", "x%0Ax\n::set-output name=x::y", "##[error]x", "##vso[task.complete]", "a,line=1::b", "file=x,line=2",
		"- a: b\n  c: !!python", "key: 'x' # y", "]]>", "<![CDATA[x]]>", "<!--x-->", "--> &x; <?xml?>", "\x0b\x0c\x01\ufffe",
		strings.Repeat("z", 300), strings.Repeat("w", 5000), "=1+1", "@SUM(A1)", "=HYPERLINK(\"https://evil.example\")", strings.Repeat("`|", 200), "...", "", " ", "  x  ", "\\", "a\\", "##", "](", "a@b.example", "javascript:alert(1)", "//evil.example/x", "../../x", "a:b:c",
	}
}

// told puts s wherever the wire can put something, by the way it really goes:
// escaped by the cage, through the codec.
func told(t testing.TB, s string) Input {
	t.Helper()
	e := event.Escape(s)
	clipped := event.EscapeMax(s, 300)
	process := &event.Process{Exe: e, Args: []string{e, e}, Chain: []string{"sh", e, e}, Note: e}
	conn := func(c event.Conn) event.Record {
		c.Step, c.Process = "s1", process
		return event.Record{Conn: &c}
	}
	return scenario{input: Input{Mode: "restrict", Config: s, Dockerfile: s, File: s}, records: []event.Record{
		{Step: &event.Step{ID: "s1", Name: e, Command: e, Stage: e, File: e, Line: 4, Secrets: []string{e}, Network: e}},
		{Step: &event.Step{ID: "s2", Name: e, Command: e, Stage: e, Line: 5, Cached: true, Evidence: &event.Evidence{Verdict: event.EvidenceViolates, At: epoch, Doubt: e}}},
		conn(event.Conn{Protocol: "tls", Name: clipped, RawName: e, Port: 443, Verdict: event.Blocked, Reason: event.InvalidSNI, Detail: e, Rule: e, Flags: []string{e}}),
		conn(event.Conn{Protocol: "http", Name: clipped, Port: 80, Method: e, Path: e, Verdict: event.Blocked, Reason: event.InvalidHost}),
		conn(event.Conn{Protocol: "tls", Name: clipped, Port: 443, Verdict: event.Blocked, Reason: event.NotAllowed, Rule: e, Expected: true}),
		conn(event.Conn{Protocol: "tcp", Name: clipped, OrigName: clipped, Port: 22, Verdict: event.Allowed, Rule: e, RulePos: e, Up: 9 << 20, Down: 1, Flags: []string{e}}),
		{Drop: &event.Drop{Step: "s1", Protocol: e, Name: clipped, Dest: at("192.0.2.1:53")}},
		{DNS: &event.DNS{Step: "s1", Name: clipped, Type: e}},
		{DNS: &event.DNS{Step: e, Name: clipped, Type: e, Reason: event.DNSRefused}},
		{Source: &event.Source{Ref: e, Host: clipped, Up: 1, Down: 2, Hosts: []string{clipped, e}}},
		{Step: &event.Step{ID: "s1", Exit: exit(0)}},
	}}.build(t)
}

// lone is a run of one refusal, the place of which is in the headline.
func lone(t testing.TB, s string) Input {
	t.Helper()
	refusal := tls("s1", "collector.example.net", event.Blocked, 0, 0)
	return scenario{input: Input{Mode: "restrict", Dockerfile: s}, records: []event.Record{
		{Step: &event.Step{ID: "s1", Command: "make", File: event.Escape(s), Line: 4}}, refusal,
	}}.build(t)
}

// forged is a run whose records no Decoder lets through: s raw in every field.
func forged(t testing.TB, s string) Input {
	t.Helper()
	in := scenarios()["hostile"].build(t)
	in.Records = append(in.Records, scenarios()["audit"].build(t).Records...)
	in.Records = append(in.Records, scenarios()["clean"].build(t).Records...)
	in.Config, in.Problem, in.Dockerfile, in.Complete = s, s, s, false
	for i := range in.Records {
		forge(reflect.ValueOf(&in.Records[i]).Elem(), s)
	}
	return in
}

// returned is a report that Read takes from a file with s in every text.
func returned(t testing.TB, s string) *Report {
	t.Helper()
	r := Build(told(t, "x"))
	forge(reflect.ValueOf(r).Elem(), s)
	r.Schema = Schema
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if r, err = Read(data); err != nil {
		t.Fatal(err)
	}
	return r
}

// harmless renders what was made of s in a format and has it read as its
// readers do.
func harmless(t *testing.T, format, s string) {
	t.Helper()
	reports := map[string]*Report{"returned": returned(t, s)}
	for name, in := range map[string]Input{"told": told(t, s), "lone": lone(t, s), "forged": forged(t, s)} {
		for _, mode := range []string{"restrict", audit} {
			in.Mode = mode
			reports[name+", "+mode] = Build(in)
		}
	}
	for name, r := range reports {
		var b bytes.Buffer
		if err := Write(&b, format, r, Options{Width: minWidth, PerStep: r.Mode == audit}); err != nil {
			t.Fatal(err)
		}
		for _, wrong := range readAs(t, format, b.Bytes(), r) {
			t.Errorf("%s, %s of %q: %s", format, name, s, wrong)
		}
	}
}

// readAs returns what is wrong with a rendering.
func readAs(t *testing.T, format string, out []byte, r *Report) []string {
	t.Helper()
	switch format {
	case FormatText:
		mustBeInert(t, string(out), minWidth, false)
		return nil
	case FormatJSON:
		mustBeInert(t, string(out), 1<<30, false)
		return readJSON(out)
	case FormatMarkdown:
		return readMarkdown(out, r)
	case FormatSARIF:
		return readSARIF(t, out)
	case FormatJUnit:
		return readJUnit(out)
	case FormatHTML:
		return readHTML(out)
	case FormatGitHub:
		return readGitHub(out)
	}
	return []string{"nobody reads " + format}
}

func TestHostileTexts(t *testing.T) {
	for _, format := range Formats() {
		t.Run(format, func(t *testing.T) {
			for _, s := range hostileTexts() {
				harmless(t, format, s)
			}
		})
	}
}

func TestScenariosRead(t *testing.T) {
	for name, s := range scenarios() {
		r := s.run(t)
		for _, format := range Formats() {
			var b bytes.Buffer
			if err := Write(&b, format, r, Options{}); err != nil {
				t.Fatal(err)
			}
			for _, wrong := range readAs(t, format, b.Bytes(), r) {
				t.Errorf("%s, %s: %s", name, format, wrong)
			}
		}
	}
}

// strange are the characters of s that a report has no use for.
func strange(s string) (wrong []string) {
	for _, c := range s {
		if c != '\n' && (c < 0x20 || c > 0x7e) && !strings.ContainsRune(own+"=", c) {
			return []string{fmt.Sprintf("character %U", c)}
		}
	}
	for line := range strings.Lines(s) {
		if strings.HasPrefix(strings.TrimSpace(line), "::") || strings.Contains(line, "##[") || strings.Contains(line, "##vso[") {
			return []string{fmt.Sprintf("workflow command %q", line)}
		}
	}
	return nil
}

func fuzz(f *testing.F, format string) {
	for i, s := range hostileTexts() {
		if i%6 == 0 { // TestHostileTexts has all of them
			f.Add(s)
		}
	}
	f.Fuzz(func(t *testing.T, s string) { harmless(t, format, s) })
}

// FuzzRead: whatever Read takes can be written in every format, and is harmless.
func FuzzRead(f *testing.F) {
	for _, s := range scenarios() {
		var b bytes.Buffer
		if err := JSON(&b, s.run(f)); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add([]byte(`{"schema":"buildcage.report/v1","totals":{"dns_only":7}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Read(data)
		if err != nil {
			return
		}
		for _, format := range Formats() {
			var b bytes.Buffer
			if err := Write(&b, format, r, Options{}); err != nil {
				t.Fatal(err)
			}
			for _, wrong := range readAs(t, format, b.Bytes(), r) {
				t.Errorf("%s: %s", format, wrong)
			}
		}
	})
}

func FuzzText(f *testing.F)     { fuzz(f, FormatText) }
func FuzzJSON(f *testing.F)     { fuzz(f, FormatJSON) }
func FuzzMarkdown(f *testing.F) { fuzz(f, FormatMarkdown) }
func FuzzSARIF(f *testing.F)    { fuzz(f, FormatSARIF) }
func FuzzJUnit(f *testing.F)    { fuzz(f, FormatJUnit) }
func FuzzHTML(f *testing.F)     { fuzz(f, FormatHTML) }
func FuzzGitHub(f *testing.F)   { fuzz(f, FormatGitHub) }
