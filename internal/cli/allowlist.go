package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/buildcage/buildcage/internal/config"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/lock"
	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/internal/report"
)

// writeAllowlist puts what an audit saw into the file of --write. A record
// that is not complete, or a build that failed half way, would make a list
// that is too short, so run only calls it for a whole run.
func (b *build) writeAllowlist(in report.Input) error {
	if b.write == nil {
		return nil
	}
	existing, err := b.existing()
	if err != nil {
		return fmt.Errorf("reading %s: %w", b.write, err)
	}
	file, err := config.Base(existing, b.write.path)
	if err != nil {
		return err
	}
	// The rules have to suit the steps: of this file, whatever policy ran.
	if in.Policy, err = policy.Compile(file.Spec); err != nil {
		return err
	}
	text, err := config.Merge(existing, b.write.path, b.additions(report.Build(in)))
	if err != nil {
		return err
	}
	if b.flags.perStep && !file.Spec.Rules.Empty() {
		b.note(fmt.Sprintf("%s has rules at the top level: they still hold for every step without an entry", b.write))
	}
	render := func(w io.Writer) error { _, err := w.Write(text); return err }
	if b.flags.write == stdoutName {
		return render(b.streams.out)
	}
	if err := b.write.save(render); err != nil {
		return err
	}
	b.note(written(b.flags.write))
	return nil
}

// additions is what the file lacks.
func (b *build) additions(r *report.Report) config.Additions {
	seen := r.Allowlist()
	add := config.Additions{Rules: seen.Rules, Builder: seen.Builder, Steps: seen.Entries}
	for _, prefix := range seen.Private {
		add.AllowPrivate = append(add.AllowPrivate, policy.Text{Text: prefix.String()})
	}
	if b.flags.seen {
		add.Seen = seenBy(r)
	}
	if b.flags.perStep {
		add.Rules = policy.RuleTexts{}
		for _, e := range r.Suggested.Steps {
			add.Entries = append(add.Entries, config.Entry{Run: e.Selector, Comment: strings.Join(e.Where, "; "), Rules: e.Texts()})
		}
	}
	return add
}

// written says where the allowlist is and what to do with it.
func written(path string) string {
	use := "buildcage build"
	if filepath.Base(path) != config.Name {
		use += " --config " + path
	}
	return fmt.Sprintf("allowlist written to %s; read it, then: %s", path, use)
}

// existing is what the allowlist is merged into: the file itself, and for
// stdout the policy of the run.
func (b *build) existing() ([]byte, error) {
	path := b.write.path
	if b.flags.write == stdoutName {
		path = b.policy.path
	}
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// seenBy says of every rule by which step it was needed, and when.
func seenBy(r *report.Report) map[string]string {
	commands := map[string]string{event.BuilderStep: "the builder"}
	for _, s := range r.Steps {
		commands[s.ID] = s.Command
	}
	seen := map[string]string{}
	for _, d := range r.Destinations {
		if len(d.Steps) == 0 || d.Verdict == event.Blocked {
			continue
		}
		rule := lock.Destination{Host: d.Host, Port: d.Port}.String()
		if _, known := seen[rule]; known {
			continue
		}
		command := commands[d.Steps[0]]
		if len(command) > maxSeen {
			command = command[:maxSeen] + "..."
		}
		seen[rule] = fmt.Sprintf("%s, %s", command, d.Last.UTC().Format(time.DateOnly))
	}
	return seen
}

// maxSeen leaves room for the date in a comment.
const maxSeen = 40
