package report

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
)

// caseLimit is how many test cases a report has at most; readers of JUnit
// files give up on large ones.
const caseLimit = 5000

// JUnit writes r as JUnit XML: a suite for each stage, and in it a case for each
// destination of a step, or for the step that had none. A refusal is a failure;
// an expected one passes and says so. Suite "record" fails when the record is
// incomplete.
func JUnit(w io.Writer, r *Report, opts Options) error {
	j := newJUnit(r, opts)
	data, err := xml.MarshalIndent(j.suites(), "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the report: %w", err)
	}
	return write(w, xml.Header+string(data)+"\n")
}

type (
	junitSuites struct {
		XMLName  xml.Name      `xml:"testsuites"`
		Name     string        `xml:"name,attr"`
		Tests    int           `xml:"tests,attr"`
		Failures int           `xml:"failures,attr"`
		Errors   int           `xml:"errors,attr"`
		Time     string        `xml:"time,attr"`
		Suites   []*junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name      string      `xml:"name,attr"`
		Tests     int         `xml:"tests,attr"`
		Failures  int         `xml:"failures,attr"`
		Errors    int         `xml:"errors,attr"`
		Skipped   int         `xml:"skipped,attr"`
		Time      string      `xml:"time,attr"`
		Timestamp string      `xml:"timestamp,attr"`
		Cases     []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string      `xml:"classname,attr"`
		Name    string      `xml:"name,attr"`
		File    string      `xml:"file,attr,omitempty"`
		Line    int         `xml:"line,attr,omitempty"`
		Time    string      `xml:"time,attr"`
		Failure *junitFault `xml:"failure"`
		Error   *junitFault `xml:"error"`
		Out     string      `xml:"system-out,omitempty"`
	}
	junitFault struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// junit collects cases by suite.
type junit struct {
	summary
	byStage ordered[string, junitSuite]
	seen    map[string]int // names of cases: readers drop the second of a name
	cases   int
	left    int // out, for their number
}

func newJUnit(r *Report, opts Options) *junit {
	return &junit{summary: newSummary(r, opts.PerStep), seen: make(map[string]int)}
}

func (j *junit) suites() *junitSuites {
	j.record()
	for _, i := range j.items() {
		for _, step := range ids(i.steps) {
			j.add(step, j.refusal(&i, step))
		}
	}
	used := make(map[string]bool)
	for _, d := range j.report.Destinations {
		for _, step := range d.Steps {
			used[step] = true
			if d.Verdict != event.Blocked {
				j.add(step, junitCase{Name: j.name(step, address(d.Host, d.Port), d.Protocol), Out: reachedAs(&d)})
			}
		}
	}
	for _, s := range j.report.Steps {
		switch {
		case s.Cached:
			j.add(s.ID, junitCase{Name: j.title(s.ID, caseName) + " (from cache)", Out: judgedAs(s.Evidence)})
		case !used[s.ID]:
			j.add(s.ID, junitCase{Name: j.title(s.ID, caseName), Out: "reached nothing"})
		}
	}
	return j.sum()
}

// caseName is how much of a command a name holds.
const caseName = 100

// ids are steps, or one without name where there are none.
func ids(steps []string) []string {
	if len(steps) == 0 {
		return []string{""}
	}
	return steps
}

func (j *junit) name(step, what, proto string) string {
	return fmt.Sprintf("%s: %s %s", j.title(step, caseName), protocol(proto), what)
}

func reachedAs(d *Destination) string {
	return inert(fmt.Sprintf("%s: %s; %s, %s up, %s down", d.Verdict, whyReached(*d), plural(d.Connections, "connection"), size(d.Up), size(d.Down)))
}

func (j *junit) refusal(i *item, step string) junitCase {
	c := junitCase{Name: j.name(step, i.what, i.protocol)}
	lines := []string{fmt.Sprintf("refused %d×: %s", i.count, i.because())}
	if s := sentence(i.reason); s != "" && !i.expected {
		lines = append(lines, s)
	}
	if s := j.secret(step); s != "" {
		lines = append(lines, strings.TrimSpace(s))
	}
	for _, note := range i.notes {
		lines = append(lines, inert(note))
	}
	for _, p := range i.by {
		lines = append(lines, "by "+processLine(p, maxWidth))
	}
	text := strings.Join(lines, "\n")
	if i.expected {
		c.Out = text
		return c
	}
	c.Failure = &junitFault{Message: i.what + " refused: " + i.because(), Type: inert(string(i.reason)), Text: text}
	return c
}

// record is the suite that says whether the others can be relied on.
func (j *junit) record() {
	_, line := j.headline()
	c := junitCase{Class: "buildcage", Name: "the record is complete", Time: "0", Out: line + "\n" + j.totals()}
	if !j.report.Complete {
		c.Error = &junitFault{Message: j.doubts()[0], Type: "incomplete", Text: strings.Join(j.doubts(), "\n")}
	}
	suite := j.byStage.at("record")
	suite.Cases = append(suite.Cases, c)
}

// add files a case of a step under its stage.
func (j *junit) add(step string, c junitCase) {
	if j.cases++; j.cases > caseLimit {
		j.left++
		return
	}
	name := "Dockerfile"
	if st := j.steps[step]; st != nil {
		name = "stage " + cmp.Or(end(inert(st.Stage), maxText), "without a name")
		file, line := j.source(step)
		c.File, c.Line = inert(file), line
		c.Time = seconds(st.DurationMS)
	} else if step == event.BuilderStep {
		name = "builder"
	}
	c.Class, c.Time = name, cmp.Or(c.Time, "0")
	j.seen[c.Name]++
	if n := j.seen[c.Name]; n > 1 {
		c.Name += fmt.Sprintf(" (%d)", n)
	}
	suite := j.byStage.at(name)
	suite.Cases = append(suite.Cases, c)
}

// maxText is how much of a stage's name is told.
const maxText = 60

func seconds(ms int64) string { return fmt.Sprintf("%d.%03d", ms/1000, ms%1000) }

func (j *junit) sum() *junitSuites {
	all := &junitSuites{Name: "buildcage " + inert(cmp.Or(j.report.Mode, "run")), Time: seconds(j.report.DurationMS)}
	for n, name := range j.byStage.keys {
		s := j.byStage.vals[n]
		s.Name, s.Time, s.Timestamp = name, "0", j.report.Started.Format("2006-01-02T15:04:05")
		s.Tests = len(s.Cases)
		for _, c := range s.Cases {
			if c.Failure != nil {
				s.Failures++
			}
			if c.Error != nil {
				s.Errors++
			}
		}
		all.Tests, all.Failures, all.Errors = all.Tests+s.Tests, all.Failures+s.Failures, all.Errors+s.Errors
		all.Suites = append(all.Suites, s)
	}
	if j.left > 0 {
		all.Suites[0].Cases[0].Out += fmt.Sprintf("\n%d cases are left out; all of them are in the JSON report", j.left)
	}
	return all
}
