package lock

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/report"
)

func parsed(t *testing.T, steps string) *Lock {
	t.Helper()
	l, err := Parse("l", []byte("version: 1\nsteps: "+steps+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestCompare(t *testing.T) {
	for name, tc := range map[string]struct{ a, b, summary, text string }{
		"same": {"[{run: x, reached: ['a.test:443 https']}]", "[{run: x, reached: ['a.test:443 https']}]", "nothing new, nothing gone", ""},
		"order": {
			"[{run: x, reached: ['a.test:443 https', 'b.test:443 https']}, {run: y, reached: ['a.test:1 tcp']}]",
			"[{run: y, reached: ['a.test:1 tcp']}, {run: x, reached: ['b.test:443 https', 'a.test:443 https']}]", "nothing new, nothing gone", "",
		},
		"a new host": {
			"[{run: x, reached: ['a.test:443 https']}]", "[{run: x, reached: ['a.test:443 https', 'b.test:443 https']}]",
			"this change adds 1 new host", "+ b.test:443 (https) by \"x\"\n",
		},
		"a known host elsewhere": {
			"[{run: x, reached: ['a.test:443 https']}]", "[{run: x, reached: ['a.test:443 https']}, {run: y, stage: s, reached: ['a.test:443 https']}]",
			"this change adds 1 use of known hosts", "+ a.test:443 (https) by \"y\", stage s, known host\n",
		},
		"another protocol": {
			"[{run: x, reached: ['a.test:443 https']}]", "[{run: x, reached: ['a.test:443 tcp']}]",
			"this change adds 1 use of known hosts, no longer makes 1 use", "+ a.test:443 (tcp) by \"x\", known host\n- a.test:443 (https) by \"x\"\n",
		},
		"gone": {
			"[{run: x, reached: ['a.test:443 https']}, {run: y, reached: ['b.test:1 tcp']}]", "[{run: x, reached: ['a.test:443 https']}]",
			"this change no longer makes 1 use", "- b.test:1 (tcp) by \"y\"\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := Compare("a", parsed(t, tc.a), "b", parsed(t, tc.b))
			var b strings.Builder
			if err := d.Text(&b); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.summary+"\n"+tc.text, b.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if d.Same != (tc.text == "") {
				t.Errorf("same: %v", d.Same)
			}
		})
	}
}

func TestCompareRuns(t *testing.T) {
	before, after := sample(), sample()
	after.Destinations = append(after.Destinations,
		report.Destination{Host: "new.example.com", Port: 443, Protocol: "tls", Verdict: event.Allowed, Steps: []string{"builder"}},
		report.Destination{Host: "worse.example.com", Port: 443, Protocol: "tls", Verdict: event.Blocked, Steps: []string{"1"}})
	d := Compare("a", Of(before), "b", Of(after))
	if diff := cmp.Diff([]string{"new.example.com", "worse.example.com"}, d.NewHosts); diff != "" || d.Unknown != 1 {
		t.Errorf("%+v\n%s", d, diff)
	}
	// A lock knows nothing of the builder and of refusals, nor of a step that the cache answered for.
	l, err := Parse("l", Of(before).Encode())
	if err != nil {
		t.Fatal(err)
	}
	l.Put(Step{Key: Key{Run: "cached"}, Reached: []Destination{{Host: "c.test", Port: 1, Protocol: "tcp"}}})
	if d := Compare("l", l, "b", Of(after)); !d.Same {
		t.Errorf("%+v", d)
	}
}

func TestHostile(t *testing.T) {
	const evil = "a`|<img src=x>\x1b[31m\n::error::\u202e"
	l := &Lock{Steps: []Step{{Key: Key{Run: evil, Stage: evil}, Reached: []Destination{{Host: evil, Port: 1, Protocol: "tcp"}}}}}
	d := Compare(evil, &Lock{}, evil, l)
	var text, markdown strings.Builder
	if d.Text(&text) != nil || d.Markdown(&markdown) != nil {
		t.Fatal("not written")
	}
	for _, out := range []string{text.String(), markdown.String()} {
		for line := range strings.Lines(out) {
			if !event.Printable(strings.TrimSuffix(line, "\n")) || strings.HasPrefix(line, "::") {
				t.Errorf("%q", line)
			}
		}
	}
	row := strings.Split(strings.TrimSpace(markdown.String()), "\n")
	last := row[len(row)-1]
	if strings.Count(last, "`") != 4 || strings.Count(last, "|")-strings.Count(last, `\|`) != 5 {
		t.Errorf("what a build says leaves its cell: %s", last)
	}
	if _, err := json.Marshal(d); err != nil {
		t.Error(err)
	}
}

func TestFlood(t *testing.T) {
	l := &Lock{}
	for i := range 1000 {
		l.Steps = append(l.Steps, Step{Key: Key{Run: "x"}, Reached: []Destination{{Host: "h.test", Port: uint16(i + 1), Protocol: "tcp"}}})
	}
	var b strings.Builder
	if err := Compare("a", &Lock{}, "b", l).Text(&b); err != nil || strings.Count(b.String(), "\n") != maxListed+2 {
		t.Errorf("%d lines, %v", strings.Count(b.String(), "\n"), err)
	}
}
