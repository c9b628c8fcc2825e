package report

import (
	"bytes"
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/charmbracelet/lipgloss"

	"github.com/buildcage/buildcage/internal/event"
)

// own are the characters beyond ASCII that the text report uses itself.
const own = "✓✗×…·↑↓→"

// entry is an entry of a YAML list: it may be long, because it must not be cut.
var entry = regexp.MustCompile(`^ +- \S`)

var sgr = regexp.MustCompile("\x1b\\[[0-9;]*m")

// mustBeInert checks text output that may hold foreign text.
func mustBeInert(t *testing.T, out string, width int, colour bool) {
	t.Helper()
	if colour {
		out = sgr.ReplaceAllString(out, "")
	}
	for _, c := range out {
		if c == utf8.RuneError || c != '\n' && (c < 0x20 || c > 0x7e) && !strings.ContainsRune(own, c) {
			t.Fatalf("character %U in\n%q", c, out)
		}
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(strings.TrimSpace(line), "::") || strings.Contains(line, "##[") || strings.Contains(line, "##vso[") {
			t.Errorf("workflow command: %q", line)
		}
		copied := entry.MatchString(line) || strings.Contains(line, "--allow-")
		if w := lipgloss.Width(strings.TrimSuffix(line, "\n")); w > width && !copied && !strings.Contains(line, " add to ") {
			t.Errorf("%d columns, want at most %d: %q", w, width, line)
		}
	}
}

func TestGoldensAreInert(t *testing.T) {
	for name, s := range scenarios() {
		for _, width := range []int{0, 80, 97, 120, 500} {
			for _, colour := range []bool{false, true} {
				var b bytes.Buffer
				if err := Text(&b, s.run(t), Options{Width: width, Color: colour}); err != nil {
					t.Fatal(err)
				}
				mustBeInert(t, b.String(), min(max(width, minWidth), maxWidth), colour)
				if colour == (sgr.FindString(b.String()) == "") {
					t.Errorf("%s: colour is %t", name, !colour)
				}
			}
		}
	}
}

// FuzzInert forges records that no Decoder lets through, the hostile text raw
// in every field, and looks at what the formats make of it.
func FuzzInert(f *testing.F) {
	for _, s := range []string{"\x1b[31m", "::error::x", "##[group]x", " \t::add-mask::", "\u202e\u2028\u0085\x9b", "a\r\nb", "###[x]", `\x0a::error::`, strings.Repeat("z", 300), "...", "\xff\xfe"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		in := scenarios()["hostile"].build(t)
		in.Records = append(in.Records, scenarios()["audit"].build(t).Records...)
		in.Config, in.Problem = s, s
		for i := range in.Records {
			forge(reflect.ValueOf(&in.Records[i]).Elem(), s)
		}
		for _, mode := range []string{"restrict", "audit"} {
			in.Mode = mode
			r := Build(in)
			var text, doc bytes.Buffer
			if err := Text(&text, r, Options{Width: 80}); err != nil {
				t.Fatal(err)
			}
			mustBeInert(t, text.String(), 80, false)
			if err := JSON(&doc, r); err != nil {
				t.Fatal(err)
			}
			mustBeInert(t, doc.String(), 1<<30, false)
			var back Report
			if err := json.Unmarshal(doc.Bytes(), &back); err != nil {
				t.Fatal(err)
			}
			if len(r.Steps) > 0 && back.Steps[0].Command != r.Steps[0].Command {
				t.Errorf("JSON lost %q", r.Steps[0].Command)
			}
		}
	})
}

// forge puts s into every text of v, verdicts and kinds excepted.
func forge(v reflect.Value, s string) {
	switch v.Kind() {
	case reflect.String:
		if v.Type() != reflect.TypeFor[event.Verdict]() {
			v.SetString(s)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			forge(v.Elem(), s)
		}
	case reflect.Slice:
		for i := range v.Len() {
			forge(v.Index(i), s)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() || v.Type().PkgPath() == "net/netip" {
			return
		}
		for i := range v.NumField() {
			forge(v.Field(i), s)
		}
	}
}

func TestShorten(t *testing.T) {
	for _, tc := range []struct {
		s           string
		width       int
		middle, end string
	}{
		{"abcdefgh", 8, "abcdefgh", "abcdefgh"},
		{"abcdefgh", 7, "abc…fgh", "abcdef…"},
		{"abcdefgh", 1, "…", "…"},
		{"abcdefgh", 0, "", ""},
	} {
		if m, e := middle(tc.s, tc.width), end(tc.s, tc.width); m != tc.middle || e != tc.end {
			t.Errorf("%d: %q and %q", tc.width, m, e)
		}
	}
}

func TestSizes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 5 << 20: "5.0 MiB", 1<<63 - 1: "8192.0 PiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %s, want %s", n, got, want)
		}
	}
}
