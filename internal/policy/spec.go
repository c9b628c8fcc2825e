package policy

// Spec is a policy as text: what the configuration file and the flags say,
// with positions. It travels from host to cage as JSON and is compiled on both
// sides by Compile, so that there is one matcher.
type Spec struct {
	Mode         Mode       `json:"mode"`
	Rules        RuleTexts  `json:"rules"`
	KnownBlocked []Text     `json:"known_blocked,omitempty"`
	AllowPrivate []Text     `json:"allow_private,omitempty"`
	ECH          string     `json:"ech,omitempty"` // "" or "allow"
	Steps        []StepSpec `json:"steps,omitempty"`
	Builder      *RuleTexts `json:"builder,omitempty"` // nil: recorded, not restricted
	// Places are those of one build's Dockerfile, for entries with lines.
	Places []Place `json:"places,omitempty"`
}

// Mode is restrict (the allowlist decides) or audit (rule decisions are
// recorded and let through; everything structural stays).
type Mode string

const (
	Restrict Mode = "restrict"
	Audit    Mode = "audit"
)

// RuleTexts are the four rule lists of a section.
type RuleTexts struct {
	HTTPS []Text `json:"https,omitempty"`
	HTTP  []Text `json:"http,omitempty"`
	TCP   []Text `json:"tcp,omitempty"`
	IP    []Text `json:"ip,omitempty"`
}

// Of returns the texts of one of the four rule lists, nil for any other list.
func (r *RuleTexts) Of(l List) *[]Text {
	switch l {
	case HTTPSRules:
		return &r.HTTPS
	case HTTPRules:
		return &r.HTTP
	case TCPRules:
		return &r.TCP
	case IPRules:
		return &r.IP
	}
	return nil
}

// Empty reports whether no list has a rule.
func (r *RuleTexts) Empty() bool {
	return len(r.HTTPS)+len(r.HTTP)+len(r.TCP)+len(r.IP) == 0
}

// Text is one rule as written, and where: "buildcage.yaml:12:5" or "--allow-https".
type Text struct {
	Text string `json:"text"`
	Pos  string `json:"pos,omitempty"`
}

// StepSpec is one entry of steps:. Empty selectors match everything; all given
// selectors must match. Its four lists replace the four top-level lists, so an
// entry without any list allows nothing.
type StepSpec struct {
	Pos       string    `json:"pos,omitempty"`
	Run       string    `json:"run,omitempty"`     // glob over the RUN command
	Stage     string    `json:"stage,omitempty"`   // glob over the stage name
	Lines     string    `json:"lines,omitempty"`   // "12" or "12-20"
	Secrets   *bool     `json:"secrets,omitempty"` // true: the step mounts a secret or ssh
	Network   string    `json:"network,omitempty"` // "" or "none"
	Rules     RuleTexts `json:"rules"`
	MaxUpload int64     `json:"max_upload,omitempty"` // bytes, 0: no limit
}
