package config

import (
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/buildcage/buildcage/internal/policy"
)

func (d *decoder) builder(v *yaml.Node) {
	d.cfg.Spec.Builder = &policy.RuleTexts{}
	if isEmpty(v) {
		d.fail(v, "empty builder section", "write builder: {} to allow the builder nothing, or remove the key to allow it everything")
		return
	}
	if v.Kind != yaml.MappingNode {
		d.fail(v, kindOf(v)+" instead of lists of rules", "write allowed_https_rules: and a list below builder:")
		return
	}
	d.mapping(v, d.lists(d.cfg.Spec.Builder))
}

// check reads what is for `buildcage check` alone and changes no build.
func (d *decoder) check(v *yaml.Node) {
	if isEmpty(v) {
		return
	}
	if v.Kind != yaml.MappingNode {
		d.fail(v, kindOf(v)+" instead of keys and values", "write accept: and a list below check:")
		return
	}
	d.mapping(v, []field{{"accept", func(v *yaml.Node) {
		items := []*yaml.Node{v}
		if v.Kind == yaml.SequenceNode {
			items = v.Content
		}
		for _, item := range items {
			if text := d.text(item); text != "" {
				d.cfg.Accepted = append(d.cfg.Accepted, policy.Text{Text: text, Pos: d.src.posOf(item)})
			}
		}
	}}})
}

func (d *decoder) steps(v *yaml.Node) {
	if isEmpty(v) {
		return
	}
	if v.Kind != yaml.SequenceNode {
		d.fail(v, kindOf(v)+" instead of a list of steps", `begin each step with a dash: - run: "npm ci*"`)
		return
	}
	for _, item := range v.Content {
		if item.Kind != yaml.MappingNode {
			d.fail(item, kindOf(item)+" instead of a step", `write - run: "npm ci*"`)
			continue
		}
		d.cfg.Spec.Steps = append(d.cfg.Spec.Steps, d.step(item))
	}
}

func (d *decoder) step(n *yaml.Node) policy.StepSpec {
	s := policy.StepSpec{Pos: d.src.posOf(n)}
	d.mapping(n, append([]field{
		{"run", func(v *yaml.Node) { s.Run = d.text(v) }},
		{"stage", func(v *yaml.Node) { s.Stage = d.text(v) }},
		{"lines", func(v *yaml.Node) { s.Lines = d.lines(v) }},
		{"secrets", func(v *yaml.Node) { s.Secrets = d.boolean(v) }},
		{"network", func(v *yaml.Node) { s.Network = d.choice(v, "none") }},
		{"max_upload", func(v *yaml.Node) { s.MaxUpload = d.size(v) }},
	}, d.lists(&s.Rules)...))
	return s
}

// lines reads 12 or 12-20; its grammar beyond digits is the policy's business.
func (d *decoder) lines(v *yaml.Node) string {
	if v.Kind != yaml.ScalarNode || v.Value == "" || strings.Trim(v.Value, "0123456789-") != "" {
		d.fail(v, "not a line or a range of lines", "write lines: 12 or lines: 12-20")
		return ""
	}
	return v.Value
}

func (d *decoder) boolean(v *yaml.Node) *bool {
	if v.Kind != yaml.ScalarNode || v.ShortTag() != "!!bool" {
		d.fail(v, kindOf(v)+" instead of true or false", "write true or false")
		return nil
	}
	value := strings.EqualFold(v.Value, "true")
	return &value
}

// size reads a number of bytes with an optional unit, decimal or binary.
func (d *decoder) size(v *yaml.Node) int64 {
	n, ok := int64(0), false
	if tag := v.ShortTag(); v.Kind == yaml.ScalarNode && (tag == "!!str" || tag == "!!int") {
		n, ok = parseSize(v.Value)
	}
	if !ok {
		d.fail(v, "not a size", "write a number of bytes above 0, or a size such as 500kB or 1MiB; for none at all, network: none")
	}
	return n
}

func parseSize(s string) (int64, bool) {
	digits := strings.TrimRight(s, "BKMGTbkmgti ")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || digits[0] == '+' {
		return 0, false
	}
	var factor int64
	switch strings.TrimPrefix(s[len(digits):], " ") {
	case "", "B":
		factor = 1
	case "kB", "KB":
		factor = 1e3
	case "MB":
		factor = 1e6
	case "GB":
		factor = 1e9
	case "TB":
		factor = 1e12
	case "KiB":
		factor = 1 << 10
	case "MiB":
		factor = 1 << 20
	case "GiB":
		factor = 1 << 30
	case "TiB":
		factor = 1 << 40
	}
	if factor == 0 || n > math.MaxInt64/factor {
		return 0, false
	}
	return n * factor, true
}

// nearest is the hint for an unknown key.
func nearest(key string, fields []field) string {
	best, distance := "", len(key)/3+2
	for _, f := range fields {
		n := edits(key, f.key)
		if len(key) > 2 && strings.HasPrefix(f.key, key+"_") {
			n = 0
		}
		if n < distance {
			best, distance = f.key, n
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.key
	}
	return "the keys here are " + strings.Join(names, ", ")
}

// edits is the Levenshtein distance, with a bound on absurd keys.
func edits(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		corner := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := corner
			if a[i-1] != b[j-1] {
				cost++
			}
			corner = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
