package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
)

// resultLimit is how many results a SARIF file has at most: GitHub shows no more.
const resultLimit = 5000

// SARIF writes r as SARIF 2.1.0: each refusal is a result of the rule that its
// reason names, at the line of the step. An expected one is a suppressed note.
// What was cached, left out or lost is told by notifications of the invocation.
// A bracket after a bracket is escaped: viewers make [text](address) a link.
func SARIF(w io.Writer, r *Report, opts Options) error {
	s := sarif{summary: newSummary(r, opts.PerStep)}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s.log()); err != nil {
		return fmt.Errorf("encoding the report: %w", err)
	}
	return write(w, strings.NewReplacer("##", `#\u0023`, "](", `]\\x28`).Replace(b.String()))
}

type sarif struct {
	summary
	results []sarifResult
	rules   []sarifRule
	left    int // results left out
}

func (s *sarif) log() sarifLog {
	s.collect()
	driver := sarifDriver{
		Name: "buildcage", InformationURI: "https://github.com/buildcage/buildcage",
		Version: inert(program(s.report)), Rules: s.rules,
	}
	run := sarifRun{
		Tool: sarifTool{driver}, Invocations: []sarifInvocation{s.invocation()},
		Results: s.results, ColumnKind: "unicodeCodePoints",
	}
	if s.report.RunID != "" {
		run.Automation = &sarifAutomation{ID: "buildcage/" + inert(s.report.RunID)}
	}
	return sarifLog{
		Schema:  "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
		Version: "2.1.0", Runs: []sarifRun{run},
	}
}

func (s *sarif) collect() {
	s.results, s.rules = []sarifResult{}, []sarifRule{}
	for _, i := range s.items() {
		for _, step := range ids(i.steps) {
			s.add(step, s.refusal(&i, step), sentence(i.reason))
		}
	}
	for _, u := range s.report.Uploads {
		text := fmt.Sprintf("%s sent %s to %s and got %s back.", s.title(u.Step, maxWidth), size(u.Up), address(u.Host, u.Port), size(u.Down)) + s.secret(u.Step)
		s.add(u.Step, sarifResult{
			RuleID: "upload", Level: "warning", Message: sarifText{text},
			Fingerprints: fingerprint("upload", s.title(u.Step, maxWidth), address(u.Host, u.Port)),
		}, "A step sent a lot to a destination: more than it got back, or very much.")
	}
}

func (s *sarif) refusal(i *item, step string) sarifResult {
	rule := string(i.reason)
	if sentence(i.reason) == "" {
		rule = "refused"
	}
	text := fmt.Sprintf("%s was refused %s (%s): %s.", s.title(step, maxWidth), i.what, protocol(i.protocol), i.because())
	text += s.secret(step)
	for _, p := range i.by {
		text += " By " + processLine(p, maxWidth) + "."
	}
	result := sarifResult{
		RuleID: rule, Level: "error", Message: sarifText{text}, Occurrences: max(i.count, 1),
		Fingerprints: fingerprint(rule, s.title(step, maxWidth), i.what, i.protocol),
	}
	if i.expected {
		result.Level = "note"
		result.Suppressions = []sarifSuppression{{Kind: "external", Justification: "known_blocked_rules: " + inert(i.rule)}}
	}
	return result
}

// add places a result; the first of a rule brings the rule.
func (s *sarif) add(step string, result sarifResult, about string) {
	if len(s.results) == resultLimit {
		s.left++
		return
	}
	file, line := s.source(step)
	result.Locations = []sarifLocation{{
		Physical: sarifPhysical{
			Artifact: sarifArtifact{URI: uri(file)},
			Region:   sarifRegion{StartLine: max(line, 1)},
		},
		Logical: s.logical(step),
	}}
	if line == 0 {
		result.Message.Text += " The line is not known."
	}
	result.RuleIndex = slices.IndexFunc(s.rules, func(r sarifRule) bool { return r.ID == result.RuleID })
	if result.RuleIndex < 0 {
		result.RuleIndex = len(s.rules)
		if about == "" {
			about = "Refused by the cage."
		}
		s.rules = append(s.rules, sarifRule{ID: result.RuleID, Short: sarifText{about}, Help: sarifText{
			about + " To allow what you expect, add a rule to buildcage.yaml; what is rightly refused goes under known_blocked_rules."}})
	}
	s.results = append(s.results, result)
}

func (s *sarif) logical(step string) []sarifLogical {
	if st := s.steps[step]; st != nil && st.Stage != "" {
		return []sarifLogical{{Name: "stage " + end(inert(st.Stage), maxText), Kind: "module"}}
	}
	return nil
}

// uri is a path as a URI: relative ones stay so, nothing in them is a scheme.
func uri(file string) string {
	u := url.URL{Path: inert(file)}
	if strings.HasPrefix(file, "/") {
		u.Scheme = "file"
	}
	return u.String()
}

// fingerprint tells a result from others in the next run too.
func fingerprint(parts ...string) map[string]string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return map[string]string{"buildcage/v1": hex.EncodeToString(sum[:16])}
}

func (s *sarif) invocation() sarifInvocation {
	r := s.report
	_, line := s.headline()
	in := sarifInvocation{
		Successful: r.Complete && r.BuildExit == 0 && r.Outcome != Interrupted,
		ExitCode:   r.ExitCode(true), Start: r.Started.Format("2006-01-02T15:04:05.000Z"),
		Notifications: []sarifNotification{{Level: "note", Message: sarifText{line + ". " + s.totals() + "."}}},
	}
	tell := func(level, text string) {
		in.Notifications = append(in.Notifications, sarifNotification{Level: level, Message: sarifText{text}})
	}
	if !r.Complete {
		tell("error", "incomplete record: "+strings.Join(s.doubts(), "; "))
	}
	for n, st := range s.fromCache() {
		if n == listLimit {
			tell("note", "more steps are from cache: see the JSON report")
			break
		}
		level := "note"
		if st.Evidence == nil || st.Evidence.Verdict != event.EvidenceClean {
			level = "warning"
		}
		tell(level, "from cache: "+s.title(st.ID, maxWidth)+": "+judgedAs(st.Evidence))
	}
	if s.left > 0 {
		tell("warning", fmt.Sprintf("%d results are left out: see the JSON report", s.left))
	}
	return in
}
