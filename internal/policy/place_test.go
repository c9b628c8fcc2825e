package policy

import "testing"

// The same command in two lines is told apart by its stage; what is not
// certain makes a step's rules narrower.
func TestPlaces(t *testing.T) {
	spec := Spec{
		Rules: RuleTexts{HTTPS: []Text{{Text: "top.example.com"}}},
		Steps: []StepSpec{{Lines: "10-12", Rules: RuleTexts{HTTPS: []Text{{Text: "lines.example.com"}}}}},
		Places: []Place{
			PlaceOf(3, "a", "npm ci"), PlaceOf(10, "b", "npm ci"), PlaceOf(12, "b", "make  all"),
			PlaceOf(20, "b", "twice"), PlaceOf(11, "b", "twice"), PlaceOf(30, "odd", ""),
		},
	}
	if !spec.SelectsLines() {
		t.Error("the entry has lines")
	}
	p, err := Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		step       Step
		lines, top bool
	}{
		"in the range":          {Step{Command: "npm ci", Stage: "B"}, true, false},
		"another stage":         {Step{Command: "npm ci", Stage: "a"}, false, true},
		"stage unknown":         {Step{Command: "npm ci"}, false, false},
		"white space":           {Step{Command: "make all", Stage: "b"}, true, false},
		"twice in a stage":      {Step{Command: "twice", Stage: "b"}, false, false},
		"not in the Dockerfile": {Step{Command: "id", Stage: "b"}, false, false},
		"command not known":     {Step{Stage: "b"}, false, false},
		"only it can be":        {Step{Command: "anything", Stage: "odd"}, false, true},
		"line known":            {Step{Command: "npm ci", Stage: "a", Line: 11}, true, false},
	} {
		for host, want := range map[string]bool{"lines.example.com": c.lines, "top.example.com": c.top} {
			if got := p.For(c.step).Judge(Target{Protocol: TLS, Name: host, Port: 443}).Allowed; got != want {
				t.Errorf("%s: %s allowed: %v", name, host, got)
			}
		}
	}
	if idle := p.Idle(); idle != nil {
		t.Errorf("idle: %+v", idle)
	}
	other := spec
	other.Places = nil
	q, err := Compile(other)
	if err != nil || len(q.Idle()) != 1 || q.Digest() != p.Digest() {
		t.Errorf("places are no part of the policy's digest, but of what is idle: %v", err)
	}
}
