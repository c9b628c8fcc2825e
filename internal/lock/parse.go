package lock

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/buildcage/buildcage/internal/policy"
)

// maxSize is far above any real lock.
const maxSize = 4 << 20

const rewrite = "write the file again with buildcage audit --lock"

// Parse reads a lock. The error is a policy.Errors with positions: whatever
// this program would not write itself is one.
func Parse(path string, data []byte) (*Lock, error) {
	p := &parser{path: path}
	if len(data) > maxSize {
		return nil, policy.Errors{policy.NewError(path, "file larger than 4 MiB", "is this the right file?")}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := decoder.Decode(&doc); err != nil {
		return nil, policy.Errors{p.syntax(err)}
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, policy.Errors{policy.NewError(path, "second document", rewrite)}
	}
	l := p.root(doc.Content[0])
	if len(p.errs) > 0 {
		return nil, p.errs
	}
	l.sort()
	return l, nil
}

type parser struct {
	path string
	errs policy.Errors
}

func (p *parser) pos(n *yaml.Node) string { return fmt.Sprintf("%s:%d:%d", p.path, n.Line, n.Column) }

func (p *parser) fail(n *yaml.Node, format string, args ...any) {
	p.errs = append(p.errs, policy.NewError(p.pos(n), fmt.Sprintf(format, args...), rewrite))
}

func (p *parser) syntax(err error) *policy.Error {
	if errors.Is(err, io.EOF) {
		return policy.NewError(p.path+":1:1", "empty file", rewrite)
	}
	line := "1"
	if m := regexp.MustCompile(`line (\d+)`).FindStringSubmatch(err.Error()); m != nil {
		line = m[1]
	}
	return policy.NewError(p.path+":"+line+":1", err.Error(), rewrite)
}

// mapping calls read for each key, which must be one of keys and there once.
func (p *parser) mapping(n *yaml.Node, keys []string, read func(key string, v *yaml.Node)) {
	if n.Kind != yaml.MappingNode || n.Anchor != "" {
		p.fail(n, "keys and values are expected here")
		return
	}
	var seen []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case key.Kind != yaml.ScalarNode || !slices.Contains(keys, key.Value):
			p.fail(key, "unknown key %q", key.Value)
		case slices.Contains(seen, key.Value):
			p.fail(key, "duplicate key %q", key.Value)
		default:
			seen = append(seen, key.Value)
			read(key.Value, n.Content[i+1])
		}
	}
	if !slices.Contains(seen, keys[0]) {
		p.fail(n, "%s missing", keys[0])
	}
}

func (p *parser) list(n *yaml.Node) []*yaml.Node {
	if n.Kind != yaml.SequenceNode || n.Anchor != "" {
		p.fail(n, "a list is expected here")
		return nil
	}
	return n.Content
}

func (p *parser) text(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" || n.Anchor != "" {
		p.fail(n, "text is expected here")
		return ""
	}
	if !printable(n.Value) {
		p.fail(n, "a character that no lock has")
	}
	return n.Value
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func (p *parser) root(n *yaml.Node) *Lock {
	l := &Lock{}
	seen := map[Key]bool{}
	p.mapping(n, []string{"version", "steps"}, func(key string, v *yaml.Node) {
		if key == "version" {
			if v.Value != strconv.Itoa(Version) || v.ShortTag() != "!!int" {
				p.fail(v, "version %q is not supported", v.Value)
			}
			return
		}
		for _, item := range p.list(v) {
			s := p.step(item)
			if seen[s.Key] {
				p.fail(item, "step %q stands there twice", s.Run)
			}
			seen[s.Key] = true
			l.Steps = append(l.Steps, s)
		}
	})
	return l
}

func (p *parser) step(n *yaml.Node) Step {
	s := Step{Pos: p.pos(n)}
	p.mapping(n, []string{"run", "stage", "reached"}, func(key string, v *yaml.Node) {
		switch key {
		case "run":
			s.Run = p.text(v)
		case "stage":
			s.Stage = p.text(v)
		case "reached":
			for _, item := range p.list(v) {
				d := p.destination(item)
				if slices.ContainsFunc(s.Reached, d.same) {
					p.fail(item, "%s stands there twice", d)
				}
				s.Reached = append(s.Reached, d)
			}
		}
	})
	return s
}

func (p *parser) destination(n *yaml.Node) Destination {
	text := p.text(n)
	at, protocol, _ := strings.Cut(text, " ")
	host, port, err := net.SplitHostPort(at)
	number, errPort := strconv.ParseUint(port, 10, 16)
	if err != nil || errPort != nil || host == "" || !slices.Contains([]string{"https", "http", "tcp", "ip", "unknown"}, protocol) {
		p.fail(n, "%q is not HOST:PORT PROTOCOL", text)
	}
	return Destination{Host: host, Port: uint16(number), Protocol: protocol, Pos: p.pos(n)}
}

func parseAddr(host string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(host)
	return addr.Unmap(), err == nil && addr.Zone() == ""
}
