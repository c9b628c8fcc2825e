package policy

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A vector file is a txtar archive: rules in "policy", and either "targets"
// with the verdict and the deciding rule's position, or "errors". A policy line is
// "key: value"; "step: RUN-GLOB", "builder:" and "top:" change the section.
func TestVectors(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			runVector(t, archive(string(data)))
		})
	}
}

func runVector(t *testing.T, files map[string]string) {
	p, err := Compile(vectorSpec(t, files["policy"]))
	if want, ok := files["errors"]; ok {
		var errs Errors
		if !errors.As(err, &errs) {
			t.Fatalf("compiled, want errors:\n%s", want)
		}
		var got strings.Builder
		for _, e := range errs {
			got.WriteString(e.Error() + "\n\t" + e.Hint() + "\n")
			if e.Hint() == "" {
				t.Errorf("no hint: %v", e)
			}
		}
		if diff := cmp.Diff(want, got.String()); diff != "" {
			t.Errorf("errors (-want +got):\n%s", diff)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(files["targets"]) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		n++
		if got := verdictOf(t, p, line); got != line {
			t.Errorf("\n got %s\nwant %s", got, line)
		}
	}
	if n == 0 {
		t.Error("no targets")
	}
}

// verdictOf fills in the right side of "tls NAME:PORT [in COMMAND] => VERDICT [POS]".
func verdictOf(t *testing.T, p *Policy, line string) string {
	left, _, ok := strings.Cut(line, " => ")
	if !ok {
		t.Fatalf("no verdict: %s", line)
	}
	where, command, _ := strings.Cut(left, " in ")
	step := Step{Command: "true"}
	switch {
	case command == "builder":
		step = Step{Builder: true}
	case command == "unknown":
		step = Step{}
	case command != "":
		step = Step{Command: command}
	}
	proto, dest, _ := strings.Cut(where, " ")
	target, ok := vectorTarget(t, Protocol(proto), dest)
	if !ok {
		return left + " => invalid"
	}
	scope := p.For(step)
	d := scope.Judge(target)
	verdict := "refused"
	switch {
	case d.Audited:
		verdict = "audited"
	case d.Allowed:
		verdict = "allowed"
	case d.Expected:
		verdict = "expected"
	case d.Reason == networkDenied:
		verdict = "no-network"
	}
	if match := scope.Match(target) != nil; match != (d.Allowed && !d.Audited && scope.Restricted()) {
		t.Errorf("%s: Match says %v, Judge %+v", left, match, d)
	}
	return strings.TrimSpace(left + " => " + verdict + " " + d.Pos)
}

func vectorTarget(t *testing.T, proto Protocol, dest string) (Target, bool) {
	if proto == IP {
		ap, err := netip.ParseAddrPort(dest)
		if err != nil {
			t.Fatal(err)
		}
		return Target{Protocol: IP, Addr: ap.Addr(), Port: ap.Port()}, true
	}
	var raw, port string
	if quoted, err := strconv.QuotedPrefix(dest); err == nil {
		raw, _ = strconv.Unquote(quoted)
		port = dest[len(quoted)+1:]
	} else {
		i := strings.LastIndexByte(dest, ':')
		raw, port = dest[:i], dest[i+1:]
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	name, ok := CanonicalName(raw)
	return Target{Protocol: proto, Name: name, Port: uint16(n)}, ok
}

func vectorSpec(t *testing.T, text string) Spec {
	var spec Spec
	section := &spec.Rules
	n := 0
	for line := range strings.Lines(text) {
		n++
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		if !ok {
			t.Fatalf("policy line %d: %s", n, line)
		}
		value = strings.TrimPrefix(value, " ")
		if len(value) > 0 && value[0] == '"' {
			value, _ = strconv.Unquote(value)
		}
		rule := Text{Text: value, Pos: "p:" + strconv.Itoa(n)}
		switch key {
		case "mode":
			spec.Mode = Mode(value)
		case "ech":
			spec.ECH = value
		case "top":
			section = &spec.Rules
		case "builder":
			spec.Builder = &RuleTexts{}
			section = spec.Builder
		case "step":
			spec.Steps = append(spec.Steps, StepSpec{Pos: rule.Pos, Run: value})
			section = &spec.Steps[len(spec.Steps)-1].Rules
		case "network":
			spec.Steps[len(spec.Steps)-1].Network = value
		case "lines":
			spec.Steps[len(spec.Steps)-1].Lines = value
		case string(BlockedRules):
			spec.KnownBlocked = append(spec.KnownBlocked, rule)
		case string(PrivateRules):
			spec.AllowPrivate = append(spec.AllowPrivate, rule)
		default:
			texts := section.Of(List(key))
			if texts == nil {
				t.Fatalf("policy line %d: unknown key %q", n, key)
			}
			*texts = append(*texts, rule)
		}
	}
	return spec
}

// archive reads a txtar file; its comment is dropped.
func archive(text string) map[string]string {
	files := map[string]string{}
	name := ""
	for line := range strings.Lines(text) {
		if head, ok := strings.CutPrefix(line, "-- "); ok && strings.HasSuffix(head, " --\n") {
			name = strings.TrimSuffix(head, " --\n")
			files[name] = ""
			continue
		}
		if name != "" {
			files[name] += line
		}
	}
	return files
}
