package battery

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/test/e2e/lab"
	"github.com/buildcage/buildcage/test/e2e/lab/wire"
)

// Battery is a lab and the program under test.
type Battery struct {
	Lab    *lab.Lab
	Binary string
	Log    func(format string, args ...any)
}

// Run is one case in one mode.
type Run struct {
	*Battery
	Case  *Case
	Mode  Mode
	Lines []Expectation
	Dir   string // the build context
	Out   string // for files that the run writes
	Token string

	Code           int
	Stdout, Stderr string
	JSON           string
	HookOutput     string
	Records        int64 // lines of the record
	Traffic        Traffic

	Checks   Checks
	Problems []string
}

// Checks are how many things each oracle compared.
type Checks struct{ Traffic, Record, Live int }

// baseZone is what every zone begins with; a case's own lines come first.
const baseZone = `
alive.test      A    ` + wire.OriginPublic + `
dead.test       A    ` + wire.SinkPublic + `
allowed.test    A    ` + wire.Origin + `
*.allowed.test  A    ` + wire.Origin + `
`

// fixed are the placeholders that mean the same in every run. They work in
// every section of a case.
func fixed() *strings.Replacer {
	return strings.NewReplacer(
		"${origin}", wire.Origin, "${sink}", wire.Sink, "${names}", wire.Names, "${bridge}", wire.Bridge,
		"${origin_public}", wire.OriginPublic, "${sink_public}", wire.SinkPublic,
		"${origin6}", wire.Origin6, "${sink6}", wire.Sink6,
		"${origin_public6}", wire.OriginPublic6, "${sink_public6}", wire.SinkPublic6, "${cr}", "\r", "${bom}", "\ufeff")
}

// fill fills in all placeholders; the others are of this run.
func (r *Run) fill(text string) string {
	own := strings.NewReplacer("${token}", r.Token, "${pin}", r.Lab.Pin, "${mode}", string(r.Mode), "${agent}", r.agentSocket())
	return own.Replace(fixed().Replace(text))
}

func (b *Battery) newRun(c *Case, mode Mode, tmp string) (*Run, error) {
	r := &Run{Battery: b, Case: c, Mode: mode, Dir: filepath.Join(tmp, "context"), Out: filepath.Join(tmp, "out")}
	var token [8]byte
	_, _ = rand.Read(token[:]) // never fails
	r.Token = "cnry" + hex.EncodeToString(token[:])
	text, ok := c.lines[mode]
	if !ok {
		text = c.lines[Restrict] // of a control
	}
	var err error
	if r.Lines, err = ParseExpectations(r.fill(text)); err != nil {
		return nil, err
	}
	return r, r.materialize()
}

// materialize writes the build context, with the liveness check behind the
// last stage of the Dockerfile.
func (r *Run) materialize() error {
	files := map[string]string{}
	for name, text := range r.Case.Files {
		files[name] = r.fill(text)
	}
	if r.Case.Live && r.Mode != Uncaged {
		files["Dockerfile"] += fmt.Sprintf("\nRUN --mount=from=%s,target=/.lab [\"%s\", \"live\", \"%s\"]\n", lab.StepImage, liveCommand, r.Mode)
	}
	files["buildcage.yaml"] = r.fill(r.Case.Policy)
	if err := os.MkdirAll(r.Out, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		path := filepath.Join(r.Dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Caged runs a case in the cage and judges it. The error is of the harness;
// what the oracles say stands in Problems.
func (b *Battery) Caged(ctx context.Context, c *Case, mode Mode, tmp string) (*Run, error) {
	for try := 1; ; try++ {
		r, err := b.caged(ctx, c, mode, filepath.Join(tmp, strconv.Itoa(try)))
		if !errors.Is(err, errLate) || try == tries {
			return r, err
		}
		b.Log("again: %v", err)
	}
}

// errLate says nothing about the product: on a busy machine the lab can be
// slower than the cage. What it did not watch it does not judge.
var errLate = errors.New("a step began before the lab watched its cage")

// tries is how often a run is started until the lab watches it from its first step.
const tries = 5

func (b *Battery) caged(ctx context.Context, c *Case, mode Mode, tmp string) (*Run, error) {
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return nil, err
	}
	r, err := b.newRun(c, mode, tmp)
	if err != nil {
		return nil, err
	}
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	if err := r.program(ctx); err != nil {
		return nil, err
	}
	if err := r.collect(ctx); err != nil {
		return nil, err
	}
	return r, r.judge()
}

// usesRegistry says that a file of the case names the origin's registry.
func (r *Run) usesRegistry() bool {
	for _, text := range r.Case.Files {
		if strings.Contains(text, wire.Registry) {
			return true
		}
	}
	return strings.Contains(strings.Join(r.Case.Args, " "), wire.Registry)
}

// prepare puts the lab back to zero.
func (r *Run) prepare(ctx context.Context) error {
	if r.usesRegistry() {
		if err := r.Lab.Publish(ctx); err != nil {
			return err
		}
	}
	r.Lab.Forget()
	if err := r.Lab.Names.Script(ctx, r.fill(r.Case.Zone)+baseZone); err != nil {
		return err
	}
	return errors.Join(r.Lab.Origin.Reset(ctx), r.Lab.Sink.Reset(ctx), r.Lab.Names.Reset(ctx))
}

func (r *Run) args() []string {
	command := map[Mode]string{Restrict: "build", Audit: "audit"}[r.Mode]
	args := []string{
		command, "--report", "text", "--report", "json=" + filepath.Join(r.Out, "report.json"), "--events", filepath.Join(r.Out, "events"),
		"--cage-network", lab.Network, "--cage-prefix", lab.Prefix, "--cage-resolver", wire.Names + ":53", "--extra-ca", r.Lab.CAFile,
		"--allow-https", "alive.test:443", "--output", "type=cacheonly", "--no-cache", "--progress", "plain",
	}
	for _, a := range r.Case.Args {
		args = append(args, r.fill(a))
	}
	return append(args, r.Dir)
}

// program runs the program under test, and the case's hook beside it.
func (r *Run) program(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.Case.Timeout)
	defer cancel()
	stop, err := r.startAgent()
	if err != nil {
		return err
	}
	defer stop()
	cmd := exec.CommandContext(ctx, r.Binary, r.args()...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second
	cmd.Dir = r.Out
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	hook := r.startHook(ctx)
	err = cmd.Wait()
	timedOut := ctx.Err() != nil
	cancel()
	hookErr := hook()
	r.Stdout, r.Stderr = stdout.String(), stderr.String()
	var exit *exec.ExitError
	switch {
	case timedOut:
		r.Problems = append(r.Problems, fmt.Sprintf("the program did not end within %v", r.Case.Timeout))
	case errors.As(err, &exit):
		r.Code = exit.ExitCode()
	case err != nil:
		return err
	}
	if hookErr != nil {
		r.Problems = append(r.Problems, "hook: "+hookErr.Error())
	}
	if b, err := os.ReadFile(filepath.Join(r.Out, "report.json")); err == nil {
		r.JSON = string(b)
	}
	return nil
}

// collect reads all counters.
func (r *Run) collect(ctx context.Context) (err error) {
	t := &r.Traffic
	t.Token = r.Token
	if t.Origin, err = r.Lab.Origin.State(ctx); err != nil {
		return err
	}
	if t.Sink, err = r.Lab.Sink.State(ctx); err != nil {
		return err
	}
	if t.Names, err = r.Lab.Names.State(ctx); err != nil {
		return err
	}
	for _, c := range r.Lab.Cages() {
		if c.Err() != nil {
			return fmt.Errorf("connecting the cage to the lab: %w", c.Err())
		}
		flows, lost := c.Flows()
		t.Uplink, t.Lost = append(t.Uplink, flows...), t.Lost+lost
	}
	if r.Mode == Uncaged {
		return nil
	}
	left, err := r.Lab.Left(ctx)
	if left != "" {
		r.Problems = append(r.Problems, "a cage is left: "+left)
	}
	return err
}

// records reads the record as the cage wrote it, with the product's own strict
// decoder; what it says is complete unless the case expects the cage to fail.
func (r *Run) records() ([]event.Record, error) {
	data, err := os.ReadFile(filepath.Join(r.Out, "events"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	records, err := event.ReadAll(bytes.NewReader(data))
	if err != nil && !r.expectsExit(125) {
		r.Problems = append(r.Problems, "record: "+err.Error())
	}
	return records, nil
}

func (r *Run) expectsExit(code int) bool {
	for _, e := range r.Lines {
		if e.Kind == "exit" && slices.Contains(e.Codes, code) {
			return true
		}
	}
	return false
}

// judge asks the oracles.
func (r *Run) judge() error {
	lines := r.Lines
	records, err := r.records()
	if err != nil {
		return err
	}
	if err := r.watched(records); err != nil {
		return err
	}
	r.Records = int64(len(records))
	list, err := flatten(records)
	if err != nil {
		return err
	}
	n, problems := r.Traffic.check(lines)
	m, more := r.invariants(records)
	r.Checks.Traffic, r.Problems = n+m, append(append(r.Problems, problems...), more...)
	n, problems = matchEvents(list, lines)
	m, more = r.texts(lines)
	r.Checks.Record, r.Problems = n+m, append(append(r.Problems, problems...), more...)
	if r.Case.Live {
		r.Checks.Live = 2
		r.Problems = append(r.Problems, r.alive(list)...)
	}
	if len(r.Problems) > 0 {
		for i := range list {
			if k := list[i].kind; k != "step" && k != "start" {
				r.Log("event %s", list[i].String())
			}
		}
		r.Log("%s", r.Traffic.summary())
		r.Log("exit %d\n%s", r.Code, tail(r.Stderr))
		if r.HookOutput != "" {
			r.Log("the hook\n%s", tail(r.HookOutput))
		}
	}
	return nil
}

// watched makes sure that traps and capture were in place before the first
// step: else an empty sink says nothing.
func (r *Run) watched(records []event.Record) error {
	cages := r.Lab.Cages()
	if len(cages) == 0 && len(records) > 0 {
		return errors.New("a cage ran, and the lab never saw it")
	}
	for _, rec := range records {
		if rec.Step == nil {
			continue
		}
		first := cages[0].Attached // the program's own: a hook may start others later
		for _, c := range cages {
			if c.Attached.Before(first) {
				first = c.Attached
			}
		}
		if rec.Time.Before(first) {
			return fmt.Errorf("%w by %v", errLate, first.Sub(rec.Time))
		}
		break
	}
	return nil
}

func tail(s string) string {
	const most = 5000
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}

// metadata is what the program wrote for --metadata-file metadata.json.
func (r *Run) metadata() string {
	data, _ := os.ReadFile(filepath.Join(r.Out, "metadata.json")) // without it, no line matches
	return string(data)
}

// texts checks exit codes and what the program printed.
func (r *Run) texts(lines []Expectation) (checks int, problems []string) {
	for _, e := range lines {
		kind, negated := strings.CutPrefix(e.Kind, "no-")
		text, ok := map[string]string{"output": r.Stderr, "stdout": r.Stdout, "json": r.JSON, "hook": r.HookOutput, "metadata": r.metadata()}[kind]
		switch {
		case e.Kind == "exit":
			checks++
			if !slices.Contains(e.Codes, r.Code) {
				problems = append(problems, fmt.Sprintf("record: exit code %d, want %v", r.Code, e.Codes))
			}
		case e.Kind == "records":
			checks++
			if !e.Count.has(r.Records) {
				problems = append(problems, fmt.Sprintf("record: %d records, want %v", r.Records, e.Count))
			}
		case ok:
			checks++
			if e.Text.MatchString(text) == negated {
				problems = append(problems, fmt.Sprintf("record: line %d: %q does not hold", e.Number, e.Line))
			}
		}
	}
	return checks, problems
}
