package battery

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// Expectation is one line of a section restrict, audit or uncaged.
type Expectation struct {
	Line   string
	Number int
	Kind   string // exit, conn, drop, …, origin, sink, …, output, …
	Count  Range
	What   string // traffic: kind of arrival, protocol
	Name   string // traffic: name, address; glob
	Port   string // traffic: number or "*"
	Fields []Field
	Codes  []int // exit
	Text   *regexp.Regexp
}

// Range is how often something happens; Max < 0 is without limit.
type Range struct{ Min, Max int64 }

func (r Range) has(n int64) bool { return n >= r.Min && (r.Max < 0 || n <= r.Max) }

func (r Range) String() string {
	switch {
	case r.Max < 0:
		return fmt.Sprintf(">=%d", r.Min)
	case r.Min == r.Max:
		return strconv.FormatInt(r.Min, 10)
	case r.Min == 0:
		return fmt.Sprintf("<=%d", r.Max)
	}
	return fmt.Sprintf("%d..%d", r.Min, r.Max)
}

// Field is a condition on an event. With the operator "@" the value of Key must
// occur in the field that Value names.
type Field struct {
	Key, Op, Value string
	re             *regexp.Regexp
}

// ParseExpectations reads the lines of a section.
func ParseExpectations(text string) ([]Expectation, error) {
	list := []Expectation{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		e, err := parseExpectation(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		e.Number = i + 1
		list = append(list, e)
	}
	return list, nil
}

func parseExpectation(line string) (e Expectation, err error) {
	kind, rest, _ := strings.Cut(line, " ")
	e.Line, e.Kind = line, kind
	if strings.Contains(texts, " "+kind+" ") { // a pattern may hold any quotes
		e.Text, err = regexp.Compile(strings.TrimSpace(rest))
		return e, err
	}
	words, err := split(rest)
	if err != nil {
		return e, err
	}
	switch e.Kind {
	case "exit":
		return e, e.exit(words)
	case "conn", "drop", "dns", "step", "source":
		return e, e.event(words)
	case "origin", "sink", "names", "uplink":
		return e, e.traffic(words)
	case "records":
		if len(words) != 1 {
			return e, fmt.Errorf("want records COUNT")
		}
		e.Count, err = parseRange(words[0])
		return e, err
	case "token":
		if len(words) != 2 {
			return e, fmt.Errorf("want token NODE COUNT")
		}
		e.What = words[0]
		e.Count, err = parseRange(words[1])
		return e, err
	}
	return e, fmt.Errorf("unknown kind %q", e.Kind)
}

// texts are the kinds whose rest is a pattern.
const texts = " output no-output json no-json hook no-hook stdout no-stdout metadata no-metadata "

func (e *Expectation) exit(words []string) error {
	for _, w := range words {
		code, err := strconv.Atoi(w)
		if err != nil {
			return fmt.Errorf("exit code %q", w)
		}
		e.Codes = append(e.Codes, code)
	}
	if len(e.Codes) == 0 {
		return fmt.Errorf("exit without a code")
	}
	return nil
}

// event reads [COUNT] FIELD…; the count is of attempts and 1 by default.
func (e *Expectation) event(words []string) (err error) {
	e.Count = Range{1, 1}
	if len(words) > 0 {
		if r, err := parseRange(words[0]); err == nil {
			e.Count, words = r, words[1:]
		}
	}
	for _, w := range words {
		i := strings.IndexAny(w, "=!~<>@")
		if i <= 0 {
			return fmt.Errorf("%q is no condition", w)
		}
		f := Field{Key: w[:i], Op: w[i : i+1], Value: w[i+1:]}
		if f.Op != "=" && f.Op != "~" && f.Op != "@" {
			if !strings.HasPrefix(f.Value, "=") {
				return fmt.Errorf("%q is no condition", w)
			}
			f.Op, f.Value = f.Op+"=", f.Value[1:]
		}
		if f.Op == "~" {
			if f.re, err = regexp.Compile(f.Value); err != nil {
				return err
			}
		}
		e.Fields = append(e.Fields, f)
	}
	return nil
}

// traffic reads [WHAT] [NAME[:PORT]] COUNT.
func (e *Expectation) traffic(words []string) (err error) {
	if len(words) == 0 {
		return fmt.Errorf("%s without a count", e.Kind)
	}
	if e.Count, err = parseRange(words[len(words)-1]); err != nil {
		return err
	}
	words = words[:len(words)-1]
	e.What, e.Name, e.Port = map[string]string{"origin": "any"}[e.Kind], "*", "*"
	if e.What == "" {
		e.What = "*"
	}
	if len(words) > 0 && (len(words) == 2 || isWhat(e.Kind, words[0])) {
		e.What, words = words[0], words[1:]
	}
	switch len(words) {
	case 0:
	case 1:
		e.Name = words[0]
		if i := strings.LastIndexByte(words[0], ':'); i >= 0 && e.Kind != "names" && !strings.HasSuffix(words[0], "]") {
			e.Name, e.Port = words[0][:i], words[0][i+1:]
		}
		e.Name = strings.Trim(e.Name, "[]")
	default:
		return fmt.Errorf("want %s [WHAT] [NAME[:PORT]] COUNT", e.Kind)
	}
	return nil
}

// arrivals are the kinds of wire.Arrival; any is tls and http.
const arrivals = " any conn tls http https raw ws exporter "

// protocols are those of packets.
const protocols = " * tcp udp icmp icmpv6 igmp sctp dccp gre esp udplite other "

func isWhat(kind, word string) bool {
	word = " " + strings.TrimSuffix(word, ".bytes") + " "
	switch kind {
	case "names":
		return strings.ToUpper(word) == word && word != " * "
	case "uplink":
		return strings.Contains(protocols, word)
	}
	return strings.Contains(arrivals, word) || strings.Contains(protocols, word) || strings.HasPrefix(word, " proto-")
}

// parseRange reads 3, >=1, <=5, 2..4 or any.
func parseRange(s string) (r Range, err error) {
	if s == "any" {
		return Range{0, -1}, nil
	}
	if rest, ok := strings.CutPrefix(s, ">="); ok {
		r.Max = -1
		r.Min, err = strconv.ParseInt(rest, 10, 64)
		return r, err
	}
	if rest, ok := strings.CutPrefix(s, "<="); ok {
		r.Max, err = strconv.ParseInt(rest, 10, 64)
		return r, err
	}
	first, last, ranged := strings.Cut(s, "..")
	if r.Min, err = strconv.ParseInt(first, 10, 64); err != nil {
		return r, fmt.Errorf("%q is no count", s)
	}
	r.Max = r.Min
	if ranged {
		r.Max, err = strconv.ParseInt(last, 10, 64)
	}
	return r, err
}

// split cuts at spaces outside of double quotes, which it takes away; in them
// a backslash stands before a quote or a backslash.
func split(line string) (words []string, err error) {
	var word strings.Builder
	quoted, inside := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			quoted, inside = !quoted, true
		case c == '\\' && quoted && i+1 < len(line) && (line[i+1] == '"' || line[i+1] == '\\'):
			i++
			word.WriteByte(line[i])
		case unicode.IsSpace(rune(c)) && !quoted:
			if inside {
				words = append(words, word.String())
				word.Reset()
				inside = false
			}
		default:
			word.WriteByte(c)
			inside = true
		}
	}
	if quoted {
		return nil, fmt.Errorf("quote without an end")
	}
	if inside {
		words = append(words, word.String())
	}
	return words, nil
}
