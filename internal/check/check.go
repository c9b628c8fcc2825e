// Package check finds what is wrong with a policy and its Dockerfile before
// anything is built. It is pure: it reads what it is given, knows no engine and
// no network, and judges with the same matcher that the cage uses.
package check

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/buildcage/buildcage/internal/config"
	"github.com/buildcage/buildcage/internal/dockerfile"
	"github.com/buildcage/buildcage/internal/lock"
	"github.com/buildcage/buildcage/internal/policy"
)

// Severity of a finding. Drift is a lock that no longer fits.
type Severity string

const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Drift   Severity = "drift"
)

// Finding is one thing that is wrong.
type Finding struct {
	Severity Severity `json:"severity"`
	Code     string   `json:"code"`
	Pos      string   `json:"pos,omitempty"` // file:line:column, file:line
	Rule     string   `json:"rule,omitempty"`
	Message  string   `json:"message"`
	Hint     string   `json:"hint,omitempty"`
}

// File is an input; nil Data: there is none.
type File struct {
	Name string
	Data []byte
}

// Input is what there is to look at.
type Input struct {
	Policy     File
	Dockerfile File
	Lock       File
	// Accept are codes, or "CODE RULE", of findings that are meant, as in
	// check.accept of the policy.
	Accept []policy.Text
}

// Codes of findings, and what severity they have.
func codes() map[string]Severity {
	return map[string]Severity{
		"invalid": Error, "every-name": Error, "public-suffix": Error, "every-port": Error, "large-network": Error,
		"shared-suffix": Warning, "regex-dot": Warning, "regex-prefix": Warning,
		"duplicate-rule": Warning, "shadowed-rule": Warning, "blocked-rule": Warning,
		"unused-entry": Warning, "hidden-entry": Warning, "duplicate-entry": Warning,
		"dockerfile": Error, "weak-option": Error, "custom-frontend": Warning,
		"builder-source": Warning, "builder-add": Error,
		"lock-invalid": Error, "lock-refused": Drift, "lock-step": Drift,
	}
}

// Codes are all codes, sorted.
func Codes() []string {
	var names []string
	for c := range codes() {
		names = append(names, c)
	}
	slices.Sort(names)
	return names
}

// checker collects findings.
type checker struct {
	in       Input
	cfg      *config.Config // nil: the policy is not valid
	policy   *policy.Policy
	graph    *dockerfile.Graph // nil: none that could be read
	findings []Finding
}

// Run returns the findings, sorted by file and place.
func Run(in Input) []Finding {
	c := &checker{in: in}
	c.load()
	c.graph = c.read()
	c.accepted()
	if c.policy != nil {
		c.rules()
		c.entries()
	}
	c.dockerfile()
	c.lock()
	c.drop()
	slices.SortStableFunc(c.findings, func(a, b Finding) int { return comparePos(a.Pos, b.Pos) })
	return c.findings
}

func (c *checker) add(code, pos, rule, message, hint string) {
	if code == "hidden-entry" && c.has(code, pos) {
		return // the order says it with and without a Dockerfile
	}
	c.findings = append(c.findings, Finding{Severity: codes()[code], Code: code, Pos: pos, Rule: rule, Message: message, Hint: hint})
}

func (c *checker) has(code, pos string) bool {
	return slices.ContainsFunc(c.findings, func(f Finding) bool { return f.Code == code && f.Pos == pos })
}

// load reads the policy. Every error of it is a finding.
func (c *checker) load() {
	if c.in.Policy.Data == nil {
		c.cfg = config.Default()
	} else {
		var err error
		if c.cfg, err = config.Load(c.in.Policy.Name, c.in.Policy.Data); err != nil {
			c.invalid("invalid", c.in.Policy.Name, err)
			c.cfg = nil
			return
		}
	}
	compiled, err := policy.Compile(c.cfg.Spec)
	if err != nil {
		c.invalid("invalid", c.in.Policy.Name, err)
		return
	}
	c.policy = compiled
}

// invalid makes findings of errors with positions.
func (c *checker) invalid(code, file string, err error) {
	var many policy.Errors
	if !errors.As(err, &many) {
		c.add(code, file, "", err.Error(), "")
		return
	}
	for _, e := range many {
		c.add(code, e.Pos, e.Rule, e.Msg, e.Hint())
	}
}

// accepted adds what the policy accepts to what the caller does.
func (c *checker) accepted() {
	if c.cfg != nil {
		c.in.Accept = append(slices.Clone(c.in.Accept), c.cfg.Accepted...)
	}
	for _, a := range c.in.Accept {
		code, _, _ := strings.Cut(a.Text, " ")
		if _, ok := codes()[code]; !ok || code == "invalid" {
			c.add("invalid", a.Pos, "", "check: "+strconv.Quote(code)+" is not a finding that can be accepted", "one of "+strings.Join(acceptable(), ", "))
		}
	}
}

func acceptable() []string {
	return slices.DeleteFunc(Codes(), func(s string) bool { return s == "invalid" })
}

// drop takes out what is accepted.
func (c *checker) drop() {
	c.findings = slices.DeleteFunc(c.findings, func(f Finding) bool {
		return f.Code != "invalid" && slices.ContainsFunc(c.in.Accept, func(a policy.Text) bool {
			code, rule, one := strings.Cut(a.Text, " ")
			return code == f.Code && (!one || strings.TrimSpace(rule) == f.Rule)
		})
	})
}

// comparePos orders by file, then by line and column as numbers.
func comparePos(a, b string) int {
	fileA, numsA := cutPos(a)
	fileB, numsB := cutPos(b)
	return cmp.Or(cmp.Compare(fileA, fileB), slices.Compare(numsA, numsB))
}

func cutPos(pos string) (file string, nums []int) {
	for {
		i := strings.LastIndexByte(pos, ':')
		n, err := strconv.Atoi(pos[i+1:])
		if i < 0 || err != nil {
			slices.Reverse(nums)
			return pos, nums
		}
		pos, nums = pos[:i], append(nums, n)
	}
}

// lock is checked against the policy of today.
func (c *checker) lock() {
	if c.in.Lock.Data == nil {
		return
	}
	file, err := lock.Parse(c.in.Lock.Name, c.in.Lock.Data)
	if err != nil {
		c.invalid("lock-invalid", c.in.Lock.Name, err)
		return
	}
	if c.policy != nil {
		c.lockRules(file)
	}
}
