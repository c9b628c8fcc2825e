package policy

import "strings"

// Explanation is a decision and what it rests on, for a person.
type Explanation struct {
	Target   Target
	Decision Decision
	// Section is where the deciding lists stand: "" for the top level,
	// "steps[1]" or "builder"; SectionPos is its position where known.
	Section    string
	SectionPos string
	// List and Add are the list and the rule that would allow the target.
	// Empty when it is allowed already, and when adding does not help: where a
	// known_blocked rule or network: none would have to go.
	List List
	Add  string
}

// Explain judges a target and says why, and what to add where it is refused.
func (s *Scope) Explain(t Target) Explanation {
	s = s.Refusing(t)
	e := Explanation{Target: t, Decision: s.Judge(t)}
	for _, section := range s.sections {
		e.Section, e.SectionPos = section.name, section.pos
		if list, ok := listOf(t.Protocol); ok && section.lists[list].find(t) == nil {
			break // the section that refuses is the one to look at
		}
	}
	if r := e.Decision.Reason; !e.Decision.Expected && (r == notAllowed || r == ipNotAllowed) {
		e.List, e.Add = Suggest(t)
	}
	return e
}

// Lacking are the sections that need a rule before a target is allowed: indexes
// of entries of steps:, -1 for any other section. More than one where it is
// not certain which entry selects the step. Nil where no rule helps, or none is needed.
func (s *Scope) Lacking(t Target) []int {
	list, ok := listOf(t.Protocol)
	if !ok || !t.valid() || s.NetworkNone() {
		return nil
	}
	var lacking []int
	for _, section := range s.sections {
		if section.lists[list].find(t) == nil {
			lacking = append(lacking, section.entry)
		}
	}
	return lacking
}

// Line is the YAML to add: "allowed_https_rules: pypi.org:443". Empty when
// there is nothing to add.
func (e Explanation) Line() string {
	if e.Add == "" {
		return ""
	}
	add := e.Add
	if strings.HasPrefix(add, "[") {
		add = `"` + add + `"`
	}
	return string(e.List) + ": " + add
}

// Flag is the same as a flag: "--allow-https pypi.org:443".
func (e Explanation) Flag() string {
	if e.Add == "" || e.Section == builderSection {
		return "" // flags are for steps
	}
	add := e.Add
	if strings.HasPrefix(add, "[") {
		add = "'" + add + "'"
	}
	return e.List.Flag() + " " + add
}

func (e Explanation) String() string {
	var b strings.Builder
	b.WriteString(e.Target.String() + " (" + string(e.Target.Protocol) + "): ")
	d := e.Decision
	switch {
	case d.Reason == networkDenied:
		b.WriteString("refused: network: none")
	case d.Expected:
		b.WriteString("refused, as expected, by " + quote(d.Rule))
	case d.Rule != "":
		b.WriteString("allowed by " + quote(d.Rule))
	case d.Reason == "":
		b.WriteString("allowed: not restricted")
	default:
		b.WriteString("refused: no rule")
	}
	if d.Audited {
		b.WriteString("; audit lets it through")
	}
	pos := d.Pos
	if pos == "" {
		pos = e.SectionPos
	}
	if pos != "" {
		b.WriteString(" (" + pos + ")")
	}
	return b.String()
}

// Suggest returns the list and the narrowest rule that allows a target, empty
// for one that no rule can allow.
func Suggest(t Target) (List, string) {
	list, ok := listOf(t.Protocol)
	if !ok || !t.valid() {
		return "", ""
	}
	return list, t.String()
}
