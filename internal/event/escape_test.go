package event

import (
	"errors"
	"strings"
	"testing"
)

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"":                         "",
		"pypi.org":                 "pypi.org",
		"a b~":                     "a b~",
		"\x1b[2J":                  `\x1b[2J`,
		"a\r\nb":                   `a\x0d\x0ab`,
		`\x41`:                     `\x5cx41`,
		"\u202e":                   `\xe2\x80\xae`,
		"\x7f\x80\xff":             `\x7f\x80\xff`,
		strings.Repeat("a", 1024):  strings.Repeat("a", 1024),
		strings.Repeat("a", 1025):  strings.Repeat("a", 510) + Mark + strings.Repeat("a", 510),
		strings.Repeat("\n", 9999): strings.Repeat(`\x0a`, 127) + Mark + strings.Repeat(`\x0a`, 127),
	} {
		if got := Escape(in); got != want {
			t.Errorf("Escape(%.20q) = %q, want %q", in, got, want)
		}
	}
}

func TestEscapeMaxKeepsTail(t *testing.T) {
	if got, want := EscapeMax(strings.Repeat("\x00", 50)+".example.com", 28), `\x00\x00\x00\....example.com`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUnescapeRefuses(t *testing.T) {
	for _, s := range []string{`\`, `\x`, `\x1`, `\xAB`, `\n`, "a\n", "é"} {
		if got, err := Unescape(s); err == nil {
			t.Errorf("Unescape(%q) = %q", s, got)
		}
	}
	if _, err := Unescape(Escape(strings.Repeat("a", 2000))); !errors.Is(err, ErrCut) {
		t.Errorf("cut text: %v", err)
	}
}

// Escape is printable, bounded and, unless cut, reversible; cutting again
// splits no sequence; Clean leaves escaped text alone.
func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "pypi.org", "\x1b]8;;x\a", `\...`, `\x41\`, strings.Repeat("\xff\\", 700), "::error::x"} {
		f.Add(s, 20)
	}
	f.Fuzz(func(t *testing.T, s string, limit int) {
		e := Escape(s)
		if !Printable(e) || len(e) > MaxText {
			t.Fatalf("Escape(%q) = %q", s, e)
		}
		if back, err := Unescape(e); err == nil && back != s || err != nil && !errors.Is(err, ErrCut) {
			t.Fatalf("Unescape(%q) = %q, %v", e, back, err)
		}
		if !Printable(Clean(s)) || Clean(e) != e {
			t.Fatalf("Clean(%q) = %q", s, Clean(s))
		}
		short := cut(e, max(len(Mark), limit%MaxText))
		if _, err := Unescape(short); err != nil && !errors.Is(err, ErrCut) {
			t.Fatalf("cut(%q) = %q: %v", e, short, err)
		}
	})
}

func TestShortLabels(t *testing.T) {
	long := strings.Repeat("a", 20) + "secret" + strings.Repeat("b", 20)
	for in, want := range map[string]string{
		"":                                "",
		"exfil.example:443":               "exfil.example:443",
		strings.Repeat("a", 40) + ".test": strings.Repeat("a", 40) + ".test",
		long + ".test":                    `aaaaaaaa\...bbbbbbbb.test`,
		"x " + long + "." + long + "/y":   `x aaaaaaaa\...bbbbbbbb.aaaaaaaa\...bbbbbbbb/y`,
		strings.Repeat(`\x80`, 11):        `\x80\x80\...\x80\x80`,
		`a\...b`:                          `a\...b`,
	} {
		if got := ShortLabels(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}
