package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/console"

	"github.com/buildcage/buildcage/internal/buildx"
	"github.com/buildcage/buildcage/internal/config"
	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/runner"
)

// settle is how long a question stands before an answer to it counts: what is
// typed earlier was meant for something else.
const settle = 500 * time.Millisecond

// asker shows the cage's questions among buildx's lines, one at a time, and
// takes answers from the keyboard.
type asker struct {
	width func() int
	file  *target // that rules are written to
	echo  func(on bool)
	now   func() time.Time

	mu    sync.Mutex
	notes *buildx.Notes
	open  []asked // the first one is on the screen
	count int
	since time.Time           // when it came there
	write []contract.Question // of this run
	err   error               // that kept rules from being written
}

type asked struct {
	contract.Question
	id    string // of its note
	reply func(contract.Answer) error
}

// checkAsk prepares --ask, which needs a person at a terminal.
func (b *build) checkAsk() error {
	if !b.flags.ask {
		return nil
	}
	switch {
	case os.Getenv("CI") != "":
		return usagef("leave --ask out where CI is set; what is refused stands in the report", "--ask: nobody answers in CI")
	case !terminal(b.streams.in) || !b.streams.transient():
		return usagef("run it in a terminal, or leave --ask out; what is refused stands in the report", "--ask needs a terminal for input and for standard error")
	case !b.buildx.Redraws():
		return usagef("leave --progress and BUILDKIT_PROGRESS out", "--ask needs the progress display for terminals")
	case b.contextPath == "-" || slices.Contains(append(b.buildx.List("file"), b.buildx.Value("file")), "-"):
		return usagef("give the build context and the Dockerfile as paths", "--ask: standard input can't hold answers and something else")
	}
	keyboard, err := console.ConsoleFromFile(b.streams.in)
	if err != nil {
		return fmt.Errorf("preparing --ask: %w", err)
	}
	path := b.policy.path
	if path == "" {
		path = filepath.Join(b.input.Local, config.Name)
	}
	file, err := openTarget(path, "--ask")
	if err != nil {
		return err
	}
	b.asker = &asker{
		width: func() int { return b.streams.width(b.streams.err) }, file: file, now: time.Now,
		echo: func(on bool) { // a terminal that refuses shows what is typed
			if on {
				_ = keyboard.Reset()
				return
			}
			_ = keyboard.DisableEcho()
		},
	}
	go b.asker.listen(b.streams.in)
	return nil
}

// ask is what answers a run's questions; nil: nobody.
func (b *build) ask() func(contract.Question, func(contract.Answer) error) {
	if b.asker == nil {
		return nil
	}
	b.asker.begin(b.buildx.Notes)
	return b.asker.hear
}

// answered takes up what was said in a run. A build that runs again asks again,
// and has other steps.
func (b *build) answered(result *runner.Result) {
	if b.asker == nil {
		return
	}
	b.asker.end()
	b.asker.err = errors.Join(b.asker.err, b.writeAsked(result))
}

// begin is called before each run.
func (a *asker) begin(notes *buildx.Notes) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.notes, a.open, a.write = notes, nil, nil
}

// end is called after each run: what is open then is denied already.
func (a *asker) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.open) > 0 {
		a.open = nil
		a.echo(true)
	}
}

// hear takes a question, or its end.
func (a *asker) hear(q contract.Question, reply func(contract.Answer) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if q.Over {
		i := slices.IndexFunc(a.open, func(o asked) bool { return o.ID == q.ID })
		if i >= 0 {
			a.drop(i, "denied, nobody answered")
		}
		return
	}
	a.count++
	a.open = append(a.open, asked{q, fmt.Sprint("ask ", a.count), reply})
	if len(a.open) == 1 {
		a.echo(false)
		a.show()
	}
}

// listen takes answers, one a line, to the end of the program.
func (a *asker) listen(keyboard io.Reader) {
	lines := bufio.NewScanner(keyboard)
	for lines.Scan() {
		a.line(strings.ToLower(strings.TrimSpace(lines.Text())))
	}
}

func (a *asker) line(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	said, known := map[string]string{"a": "allowed for this step", "w": "allowed, to be written", "d": "denied"}[text]
	if !known || len(a.open) == 0 || a.now().Sub(a.since) < settle {
		return
	}
	q := a.open[0]
	if err := q.reply(contract.Answer{ID: q.ID, Allow: text != "d"}); err != nil {
		said = "denied, the answer did not arrive"
	} else if text == "w" {
		a.write = append(a.write, q.Question)
	}
	a.drop(0, said)
}

// drop takes a question off the screen, or out of those that wait.
func (a *asker) drop(i int, said string) {
	q := a.open[i]
	a.open = slices.Delete(a.open, i, i+1)
	if i > 0 {
		return
	}
	a.notes.Show(buildx.Note{ID: q.id, Text: "[cage] " + a.to(q.Question) + ": " + said, Below: a.below(q.Question), Done: true})
	if len(a.open) == 0 {
		a.echo(true)
		return
	}
	a.show()
}

func (a *asker) show() {
	q := a.open[0]
	a.since = a.now()
	a.notes.Show(buildx.Note{ID: q.id, Text: "[cage] allow " + a.to(q.Question) + "?", Below: a.below(q.Question)})
}

// margin is what buildx needs of a line besides the text.
const margin = 34

// to is the destination, shortened where the terminal is narrow: then all of
// it stands below.
func (a *asker) to(q contract.Question) string {
	text, room := event.Clean(q.To), max(a.width()-margin, 16)
	if len(text) <= room {
		return text
	}
	return text[:room/3] + "..." + text[len(text)-(room-room/3-3):]
}

// below is what a person has to know to decide.
func (a *asker) below(q contract.Question) []string {
	lines := []string{"type a: this once, w: and write it, d: deny, then Enter (30 s: denied)"}
	if to := event.Clean(q.To); to != a.to(q) {
		for part := range slices.Chunk([]byte(to), max(a.width()-margin, 16)) {
			lines = append(lines, "to "+string(part))
		}
	}
	in := "in "
	if q.Stage != "" {
		in += "stage " + event.Clean(q.Stage) + ", "
	}
	if q.Secret {
		in += "with a secret, "
	}
	in += "RUN " + event.Clean(q.Command)
	by := "by a process that is not known"
	if q.Process != "" {
		by = "by " + event.Clean(q.Process)
	}
	return append(lines, in, by, fmt.Sprintf("w adds to %s: %s: %s", event.Clean(a.file.path), event.Clean(q.List), event.Clean(q.Rule)))
}
