package cli

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/buildcage/buildcage/internal/buildx"
	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
)

// desk is an asker without a terminal.
type desk struct {
	*asker
	at     time.Time
	echoes []bool
	sent   []contract.Answer
	fail   error
}

func newDesk(width int) *desk {
	d := &desk{at: time.Now()}
	d.asker = &asker{
		width: func() int { return width }, file: &target{path: "buildcage.yaml"},
		echo: func(on bool) { d.echoes = append(d.echoes, on) },
		now:  func() time.Time { return d.at },
	}
	d.begin(new(buildx.Notes))
	return d
}

func (d *desk) reply(a contract.Answer) error {
	d.sent = append(d.sent, a)
	return d.fail
}

func (d *desk) ask(id int, to string) { d.hear(contract.Question{ID: id, To: to}, d.reply) }

func (d *desk) typed(after time.Duration, text string) {
	d.at = d.at.Add(after)
	d.line(text)
}

// Questions are answered one after the other; what is typed too early, or says
// nothing, is no answer.
func TestAsker(t *testing.T) {
	d := newDesk(80)
	d.typed(time.Hour, "a")
	d.ask(1, "a.example.com:443")
	d.ask(2, "b.example.com:443")
	d.ask(3, "c.example.com:443")
	d.typed(settle/2, "a") // was meant for something else
	d.typed(settle, "yes")
	if len(d.sent) != 0 {
		t.Fatalf("sent %v", d.sent)
	}
	d.typed(0, "a")
	d.typed(0, "w") // for the first one
	d.typed(settle, "w")
	d.typed(settle, "d")
	d.typed(settle, "a")
	want := []contract.Answer{{ID: 1, Allow: true}, {ID: 2, Allow: true}, {ID: 3}}
	if len(d.sent) != 3 || d.sent[0] != want[0] || d.sent[1] != want[1] || d.sent[2] != want[2] {
		t.Errorf("sent %v, want %v", d.sent, want)
	}
	if len(d.write) != 1 || d.write[0].ID != 2 {
		t.Errorf("to be written: %v", d.write)
	}
	if len(d.echoes) != 2 || d.echoes[0] || !d.echoes[1] {
		t.Errorf("echo %v, want off and on", d.echoes)
	}
}

// A question that is over takes no answer, and neither does the next one that
// takes its place, until it has been seen.
func TestAskerOver(t *testing.T) {
	d := newDesk(80)
	d.ask(1, "a.example.com:443")
	d.ask(2, "b.example.com:443")
	d.at = d.at.Add(settle)
	d.hear(contract.Question{ID: 1, Over: true}, d.reply)
	d.typed(0, "a")
	if len(d.sent) != 0 {
		t.Errorf("sent %v", d.sent)
	}
	d.hear(contract.Question{ID: 2, Over: true}, d.reply)
	d.hear(contract.Question{ID: 9, Over: true}, d.reply)
	if len(d.open) != 0 || len(d.echoes) != 2 {
		t.Errorf("open %v, echo %v", d.open, d.echoes)
	}
	d.ask(3, "c.example.com:443")
	d.end()
	if last := d.echoes[len(d.echoes)-1]; !last || len(d.open) != 0 {
		t.Error("the end leaves the terminal without echo")
	}
}

// An answer that does not arrive writes nothing.
func TestAskerGone(t *testing.T) {
	d := newDesk(80)
	d.fail = errors.New("broken pipe")
	d.ask(1, "a.example.com:443")
	d.typed(settle, "w")
	if len(d.write) != 0 {
		t.Errorf("to be written: %v", d.write)
	}
}

// Nothing that a step says reaches the terminal raw, and on a narrow one all of
// a name can still be read.
func TestAskerText(t *testing.T) {
	if lines := newDesk(80).below(contract.Question{Stage: "deps", Command: "npm ci", Secret: true}); !slices.Contains(lines, "in stage deps, with a secret, RUN npm ci") {
		t.Errorf("no word of the secret: %q", lines)
	}
	name := "registry.example.com." + strings.Repeat("a", 60) + ".collector.example.com:443"
	q := contract.Question{To: name, Command: "a\x1b[2J\n", Stage: "\u202e", Process: "\x9b", List: "x\r", Rule: "\a"}
	for _, width := range []int{20, 40, 80, 200} {
		d := newDesk(width)
		var all strings.Builder
		for _, line := range append(d.below(q), d.to(q)) {
			if !event.Printable(line) {
				t.Errorf("width %d: %q", width, line)
			}
			if part, ok := strings.CutPrefix(line, "to "); ok {
				all.WriteString(part)
			}
		}
		if short := d.to(q); short != name && (all.String() != name || len(short) > max(width-margin, 16)) {
			t.Errorf("width %d: %q, below it %q", width, short, all.String())
		}
	}
}
