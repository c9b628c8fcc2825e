package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/buildcage/buildcage/internal/config"
	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/internal/report"
	"github.com/buildcage/buildcage/internal/runner"
)

// flagAsked is on a connection that a person was asked about.
const flagAsked = "asked"

// writeAsked puts the rules into the policy that the person wanted there: at
// the place where an audit would, in the section of the step that needed them.
func (b *build) writeAsked(result *runner.Result) error {
	if len(b.asker.write) == 0 {
		return nil
	}
	file := b.asker.file
	existing, err := os.ReadFile(file.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading %s: %w", file, bare(err))
	}
	base, err := config.Base(existing, file.path)
	if err != nil {
		return err
	}
	compiled, err := policy.Compile(base.Spec)
	if err != nil {
		return err
	}
	seen := report.Build(report.Input{Records: wanted(result.Records, b.asker.write), Mode: string(policy.Audit), Policy: compiled})
	text, err := config.Merge(existing, file.path, b.additions(seen))
	if err != nil {
		return err
	}
	if err := file.save(func(w io.Writer) error { _, err := w.Write(text); return err }); err != nil {
		return err
	}
	b.note("the rules that you wanted are written to " + file.path)
	return nil
}

// wanted are the records of what is to be written, as an audit would have them.
func wanted(records []event.Record, write []contract.Question) (some []event.Record) {
	for _, r := range records {
		if r.Conn == nil {
			if r.Step != nil || r.Start != nil {
				some = append(some, r)
			}
			continue
		}
		for _, q := range write {
			if q.Step == r.Conn.Step && slices.Contains(r.Conn.Flags, flagAsked) && r.Conn.Verdict != event.Blocked && answers(q, r.Conn) {
				c := *r.Conn
				c.Verdict, c.Reason, c.Rule, c.RulePos = event.Audited, "", "", ""
				r.Conn = &c
				some = append(some, r)
				break
			}
		}
	}
	return some
}

// answers reports whether q was the question about c.
func answers(q contract.Question, c *event.Conn) bool {
	t := policy.Target{Protocol: policy.Protocol(c.Protocol), Name: c.Name, Port: c.Port}
	if t.Protocol == policy.IP {
		t = policy.Target{Protocol: policy.IP, Addr: c.Orig.Addr(), Port: c.Port}
	}
	list, rule := policy.Suggest(t)
	return q.List == string(list) && q.Rule == event.EscapeMax(rule, len(q.Rule)+1)
}
