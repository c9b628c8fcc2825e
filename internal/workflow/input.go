package workflow

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/buildcage/buildcage/internal/policy"
)

// importer collects rules and what is to be told.
type importer struct {
	path  string
	mode  string
	rules map[policy.List][]string
	notes []*policy.Error
}

// word is one rule of an input and the line where it stands.
type word struct {
	text string
	line int
}

func (im *importer) note(line int, rule, msg, hint string) {
	e := policy.NewError(fmt.Sprintf("%s:%d", im.path, line), msg, hint)
	e.Rule = rule
	if !slices.ContainsFunc(im.notes, func(o *policy.Error) bool { return *o == *e }) {
		im.notes = append(im.notes, e)
	}
}

// step reads the inputs of one step.
func (im *importer) step(s step) {
	for i := 0; i+1 < len(s.with.Content); i += 2 {
		key, v := s.with.Content[i], s.with.Content[i+1]
		if strings.Contains(v.Value, "${{") {
			im.note(key.Line, "", key.Value+" is not carried over: its value is an expression of the workflow", "write the rules into buildcage.yaml")
			continue
		}
		im.input(key.Value, v)
	}
}

func (im *importer) input(key string, v *yaml.Node) {
	switch key {
	case "proxy_mode":
		im.proxyMode(v)
	case "allowed_https_rules", "allowed_http_rules", "allowed_tcp_rules", "known_blocked_rules":
		im.hosts(policy.List(key), words(v))
	case "allowed_tls_rules", "allow_tls_rules":
		im.hosts(policy.HTTPSRules, words(v)) // both are judged by the name in the hello
	case "allowed_ip_rules":
		im.addresses(words(v))
	case "allowed_url_rules":
		im.urls(v)
	case "fail_on_blocked":
		if strings.EqualFold(v.Value, "false") {
			im.note(v.Line, "", "fail_on_blocked: false is not carried over: it is no part of a policy", "build with --fail-on-blocked=false")
		}
	case "proxy_engine":
		if v.Value == "inspect" {
			im.note(v.Line, "", "proxy_engine: inspect is not carried over: TLS is never opened here, so rules end at host and port", "narrow hosts where methods and paths were narrow")
		}
	case "builder_name":
		im.note(v.Line, "", "builder_name is not needed: the cage is the builder of buildcage build", "use buildcage build in place of docker buildx build")
	default:
		im.note(v.Line, "", "input "+fmt.Sprintf("%q", key)+" is not carried over", "it is no part of a policy")
	}
}

func (im *importer) proxyMode(v *yaml.Node) {
	switch v.Value {
	case "restrict", "":
		im.mode = "restrict"
	case "audit":
		im.mode = "audit"
	default:
		im.note(v.Line, "", fmt.Sprintf("proxy_mode %q is not carried over", v.Value), "the modes are restrict and audit")
	}
}

// words are the rules of an input. In a block scalar every line is one line of
// the file. A comment ends with its line, and no word of it is a rule; where
// the lines are folded into one, its sign is told and nothing behind it is taken.
func words(v *yaml.Node) (list []word) {
	line := v.Line
	if v.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		line++
	}
	for text := range strings.Lines(v.Value) {
		for _, f := range policy.Split(text) {
			comment := strings.HasPrefix(f.Text, "#")
			if !comment || v.Style&yaml.LiteralStyle == 0 {
				list = append(list, word{f.Text, line})
			}
			if comment {
				break
			}
		}
		if v.Style&yaml.LiteralStyle != 0 {
			line++
		}
	}
	return list
}

func (im *importer) hosts(l policy.List, list []word) {
	for _, w := range list {
		if _, err := policy.Parse(l, policy.Text{Text: w.text}); err != nil {
			im.refused(l, w, err)
			continue
		}
		switch regex, ok := strings.CutPrefix(w.text, "~"); {
		case ok && !anchored(regex):
			im.note(w.line, w.text, "was matched anywhere in host:port; here it has to cover all of it, which is narrower", "put .* where something else may stand")
		case !ok && !strings.Contains(w.text, ":") && l != policy.BlockedRules:
			im.note(w.line, w.text, "names no port; here that is "+map[policy.List]string{policy.HTTPRules: "80"}[l]+map[bool]string{true: "443"}[l == policy.HTTPSRules], "write the port")
		}
		im.add(l, w.text)
	}
}

func (im *importer) add(l policy.List, rule string) {
	if !slices.Contains(im.rules[l], rule) {
		im.rules[l] = append(im.rules[l], rule)
	}
}

func (im *importer) refused(l policy.List, w word, err error) {
	hint := "write a rule that means the same"
	if h, ok := err.(interface{ Hint() string }); ok && h.Hint() != "" {
		hint = h.Hint()
	}
	msg := strings.TrimPrefix(err.Error(), fmt.Sprintf("rule %q: ", w.text))
	im.note(w.line, w.text, "is not carried over into "+string(l)+": "+msg, hint)
}

// anchored reports whether an expression says itself that it covers all: one
// alternative between ^ and $. Where that is hard to see it says no.
func anchored(regex string) bool {
	return !strings.HasSuffix(regex, `\$`) && regexp.MustCompile(`^\^[^|]*(\([^()]*\)[^|]*)*\$$`).MatchString(regex)
}

// addresses: a wildcard in the last octets is a network.
func (im *importer) addresses(list []word) {
	octets := regexp.MustCompile(`^((?:\d+\.){1,3})\*(?:\.\*)*:(.+)$`)
	for _, w := range list {
		text := w.text
		if m := octets.FindStringSubmatch(text); m != nil {
			n := strings.Count(m[1], ".")
			if strings.Count(text, "*") == 4-n || strings.HasSuffix(text, ":*") && strings.Count(text, "*") == 5-n {
				text = m[1] + strings.TrimSuffix(strings.Repeat("0.", 4-n), ".") + fmt.Sprintf("/%d:%s", 8*n, m[2])
				im.note(w.line, w.text, "is written as a network: "+text, "nothing has to be done")
			}
		}
		if _, err := policy.Parse(policy.IPRules, policy.Text{Text: text}); err != nil {
			im.refused(policy.IPRules, w, err)
			continue
		}
		im.add(policy.IPRules, text)
	}
}

// urls can't be carried over: a host rule would allow every method and path.
func (im *importer) urls(v *yaml.Node) {
	line := v.Line
	if v.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		line++
	}
	for text := range strings.Lines(v.Value) {
		text = strings.TrimSpace(text)
		if text != "" && !strings.HasPrefix(text, "#") {
			im.note(line, text, "is not carried over: rules here end at host and port, so it would become wider", hostOf(text))
		}
		line++
	}
}

// hostOf is the hint of a URL rule: the host rule that is the nearest.
func hostOf(rule string) string {
	m := regexp.MustCompile(`(https?)://([^/\s]+)`).FindStringSubmatch(rule)
	if m == nil || strings.Contains(rule, "~") {
		return "add the host to allowed_https_rules if all of it may be reached"
	}
	port := ""
	if !strings.Contains(m[2], ":") {
		port = map[string]string{"https": ":443", "http": ":80"}[m[1]]
	}
	return fmt.Sprintf("add %s%s to allowed_%s_rules if all of it may be reached", m[2], port, m[1])
}
