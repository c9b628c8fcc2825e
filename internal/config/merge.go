package config

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/buildcage/buildcage/internal/policy"
)

// Additions are observed rules to write into a file.
type Additions struct {
	Rules        policy.RuleTexts         // of the top level
	AllowPrivate []policy.Text            // single addresses
	Builder      policy.RuleTexts         // of the builder; makes the section when there is none
	Steps        map[int]policy.RuleTexts // of the entries of steps:, by index
	Entries      []Entry                  // new ones, behind those
	Seen         map[string]string        // comments behind new rules in block lists, by rule
}

// Entry is a new entry of steps:.
type Entry struct {
	Run     string // selector; must not be empty
	Comment string // one line above it, printable; may be empty
	Rules   policy.RuleTexts
}

// header begins a file that Merge makes.
const header = `# What the steps of this build may reach. Written by "buildcage audit";
# made to be read, sorted and edited. Everything not listed is refused.
version: 1
mode: restrict
`

// Merge adds rules to a file and returns its new text; existing may be empty.
// Only rules that name one destination are taken. A rule that the list
// allows already, or that a known_blocked rule refuses anyway, is left out.
// New ones are sorted and stand at their place in a block list that is sorted, at
// the end of any other; every other byte of the file stays as it is. An entry whose selector is there already, or whose
// rules are all refused by known_blocked rules, is left out. The result has
// been loaded again.
func Merge(existing []byte, path string, add Additions) ([]byte, error) {
	src, root, cfg, err := open(existing, path)
	if err != nil {
		return nil, err
	}
	m := &merger{src: src, root: root, eol: "\n", seen: add.Seen}
	if bytes.Contains(src.data, []byte("\r\n")) {
		m.eol = "\r\n"
	}
	m.json = root.Style&yaml.FlowStyle != 0 && root.Content[0].Style&yaml.DoubleQuotedStyle != 0
	if err := m.plan(root, cfg, add); err != nil {
		return nil, err
	}
	merged := m.apply()
	if _, err := Load(path, merged); err != nil {
		return nil, fmt.Errorf("checking the merged %s: %w", path, err)
	}
	return merged, nil
}

// Base is the configuration that Merge adds to: that of a file which may be
// empty or hold nothing but comments.
func Base(existing []byte, path string) (*Config, error) {
	_, _, cfg, err := open(existing, path)
	return cfg, err
}

func open(existing []byte, path string) (src *source, root *yaml.Node, cfg *Config, err error) {
	src = newSource(path, existing)
	if root, err = src.parse(); err != nil {
		return nil, nil, nil, err
	}
	if root == nil {
		src = newSource(path, []byte(src.bom+newText(src.data)))
		if root, err = src.parse(); err != nil {
			return nil, nil, nil, err
		}
	}
	cfg, err = Load(path, []byte(src.bom+string(src.data)))
	return src, root, cfg, err
}

// newText is what a file of comments only, or none, begins with.
func newText(comments []byte) string {
	text := string(comments)
	if strings.TrimSpace(text) == "" {
		return header
	}
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text + "version: 1\nmode: restrict\n"
}

// plan finds out what is new and where it goes.
func (m *merger) plan(root *yaml.Node, cfg *Config, add Additions) error {
	spec := cfg.Spec
	blocked := parsed(policy.BlockedRules, spec.KnownBlocked)
	if err := m.planLists(root, &spec.Rules, blocked, add.Rules); err != nil {
		return err
	}
	private, err := fresh(policy.PrivateRules, parsed(policy.PrivateRules, spec.AllowPrivate), nil, add.AllowPrivate)
	if err != nil {
		return err
	}
	m.addTo(root, string(policy.PrivateRules), private)
	for _, i := range slices.Sorted(maps.Keys(add.Steps)) {
		steps := value(root, "steps")
		if i < 0 || i >= len(spec.Steps) || spec.Steps[i].Network != "" {
			return fmt.Errorf("adding rules to steps[%d]: no such entry with a network", i)
		}
		if err := m.planLists(steps.Content[i], &spec.Steps[i].Rules, blocked, add.Steps[i]); err != nil {
			return err
		}
	}
	if err := m.newEntries(root, blocked, add.Entries); err != nil {
		return err
	}
	if add.Builder.Empty() {
		return nil
	}
	if builder := value(root, "builder"); builder != nil {
		return m.planLists(builder, spec.Builder, blocked, add.Builder)
	}
	return m.newBuilder(root, blocked, add.Builder)
}

func (m *merger) planLists(section *yaml.Node, old *policy.RuleTexts, blocked []*policy.Rule, add policy.RuleTexts) error {
	for _, l := range policy.AllowLists() {
		rules, err := fresh(l, parsed(l, *old.Of(l)), blocked, *add.Of(l))
		if err != nil {
			return err
		}
		m.addTo(section, string(l), rules)
	}
	return nil
}

// fresh returns the canonical rules that old and blocked do not cover.
func fresh(l policy.List, old, blocked []*policy.Rule, add []policy.Text) ([]string, error) {
	var rules []string
	for _, t := range add {
		r, err := policy.Parse(l, t)
		if err != nil {
			return nil, err
		}
		if !r.Exact() {
			return nil, policy.NewError(t.Pos, "rule "+strconv.Quote(t.Text)+" names more than one destination",
				"only what was observed is written; widen the rule in the file by hand")
		}
		if !covered(r, old) && !covered(r, blocked) && !slices.Contains(rules, r.String()) {
			rules = append(rules, r.String())
		}
	}
	slices.Sort(rules)
	return rules, nil
}

// covered reports whether a rule of the list matches the one destination of r.
func covered(r *policy.Rule, rules []*policy.Rule) bool {
	text := r.String()
	if r.List == policy.PrivateRules {
		addr, err := netip.ParseAddr(text)
		return err == nil && slices.ContainsFunc(rules, func(o *policy.Rule) bool {
			p, err := netip.ParsePrefix(o.String())
			return err == nil && p.Contains(addr) || o.String() == text
		})
	}
	target := policy.Target{Protocol: policy.TLS}
	if ap, err := netip.ParseAddrPort(text); err == nil {
		target = policy.Target{Protocol: policy.IP, Addr: ap.Addr(), Port: ap.Port()}
	} else {
		name, port, _ := strings.Cut(text, ":")
		n, _ := strconv.ParseUint(port, 10, 16)
		target.Name, target.Port = name, uint16(n)
	}
	return slices.ContainsFunc(rules, func(o *policy.Rule) bool { return o.Match(target) })
}

// parsed parses rules that Load has accepted.
func parsed(l policy.List, texts []policy.Text) []*policy.Rule {
	var rules []*policy.Rule
	for _, t := range texts {
		if r, err := policy.Parse(l, t); err == nil {
			rules = append(rules, r)
		}
	}
	return rules
}

func value(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}
