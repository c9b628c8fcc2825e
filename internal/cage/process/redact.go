package process

import (
	"math"
	"path"
	"regexp"
	"slices"
	"strings"
)

// redacted stands for what was taken out. It is short, so that what it
// replaces can't become much longer.
const redacted = "***"

// named matches a name whose value is nobody's business; scoped is one with what
// stands before it in a setting such as //npm.example.com/:_authToken.
const (
	named  = `[\w.-]*(?:token|secret|passw|passphrase|pwd|credential|auth|key|cookie|bearer|signature)[\w.-]*`
	scoped = `[\w.:/@-]*` + named
)

// value is what may follow such a name inside of a script or a query.
const value = `(?:"[^"]*"?|'[^']*'?|[^\s"';&|,)}]+)`

// pattern replaces what it matches; $1 is what stays in front. It is tried
// only where maybe is true: most arguments hold nothing of the kind, and a
// regular expression costs more than the rest of a lookup.
type pattern struct {
	maybe func(string) bool
	re    *regexp.Regexp
	with  string
}

// redactor holds what is compiled once.
type redactor struct {
	option, assignment, header *regexp.Regexp
	inside                     []pattern
	run                        *regexp.Regexp
}

// patterns is the one redactor: compiling it costs more than a lookup.
//
//nolint:gochecknoglobals // constant
var patterns = redactor{
	option:     regexp.MustCompile(`(?i)^--?` + named + `$`),
	assignment: regexp.MustCompile(`(?is)^(` + scoped + `=).`),
	header:     regexp.MustCompile(`(?is)^(` + named + `\s*:\s*)[^\s/]`),
	inside: []pattern{
		{pem, regexp.MustCompile(`(?s)-----BEGIN.*?(?:-----END[^-]*-----|$)`), redacted},
		{userinfo, regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^/\s"'?#]+@`), "${1}" + redacted + "@"},
		{names, regexp.MustCompile(`(?i)\b((?:proxy-)?authorization\s*[:=]\s*)[^"'\r\n]+`), "${1}" + redacted},
		{schemes, regexp.MustCompile(`(?i)\b((?:bearer|basic|negotiate)\s+)[A-Za-z0-9._~+/=-]{6,}`), "${1}" + redacted},
		{names, regexp.MustCompile(`(?i)(` + named + `\\?["']?=)` + value), "${1}" + redacted},
		{names, regexp.MustCompile(`(?i)(` + named + `\\?["']?:\s*)` + value), "${1}" + redacted},
		{names, regexp.MustCompile(`(?i)((?:^|\s)--?` + named + `\s+)` + value), "${1}" + redacted},
		{long, regexp.MustCompile(`\b(?:gh[a-z]_|github_pat_|npm_|glpat-|gl[a-z]{2,6}-|xox[a-z]-|sk[-_]|rk_live_|pypi-|hf_|dop_v1_|shpat_|AIza|dckr_pat_|ya29\.)[\w.-]{16,}`), redacted},
		{long, regexp.MustCompile(`\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}`), redacted},
		{long, regexp.MustCompile(`\beyJ[\w-]{8,}(?:\.[\w-]*){1,4}`), redacted},
		{long, regexp.MustCompile(`\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b`), redacted},
	},
	run: regexp.MustCompile(`[A-Za-z0-9+/=_-]{20,}`),
}

func pem(s string) bool      { return strings.Contains(s, "-----BEGIN") }
func userinfo(s string) bool { return strings.Contains(s, "://") && strings.Contains(s, "@") }

// names, like the patterns, knows a word in any case, also where only Unicode
// calls it the same letter.
func names(s string) bool {
	return containsAny(s, "token", "secret", "passw", "passphrase", "pwd", "credential", "auth", "key", "cookie", "bearer", "signature")
}

func schemes(s string) bool { return containsAny(s, "bearer", "basic", "negotiate") }

func containsAny(s string, words ...string) bool {
	s = strings.ToLower(s)
	if strings.Contains(s, "\u017f") { // a long s; the other such letter, the sign of Kelvin, has k as its lower case
		s = strings.ReplaceAll(s, "\u017f", "s")
	}
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(s, w) })
}

// long says that s has 16 characters of a token in a row.
func long(s string) bool {
	n := 0
	for _, c := range []byte(s) {
		if 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("+/=_.-", c) >= 0 {
			if n++; n >= 16 {
				return true
			}
		} else {
			n = 0
		}
	}
	return false
}

// Redact returns args with what looks like a secret taken out: the values of
// names such as --token and API_KEY, passwords in URLs, headers, the tokens of
// well-known services, keys, and whatever looks random. The number of
// arguments stays, and none grows beyond three times its length and three.
func Redact(args []string) []string {
	out := make([]string, len(args))
	program := ""
	if len(args) > 0 {
		program = path.Base(args[0])
	}
	for i, a := range args {
		if i > 0 && patterns.takesSecret(program, args[i-1]) && !strings.HasPrefix(a, "--") {
			out[i] = redacted
			continue
		}
		out[i] = patterns.argument(a)
		if i > 0 {
			out[i] = short(program, args[i-1], a, out[i])
		}
	}
	return out
}

// takesSecret says that the argument after this one is a secret.
func (r *redactor) takesSecret(program, option string) bool {
	switch option {
	case "-p", "--pass":
		switch program {
		case "sshpass", "docker", "podman", "buildah", "skopeo", "nerdctl":
			return true
		}
		return option == "--pass"
	case "-a":
		return program == "redis-cli"
	}
	return names(option) && r.option.MatchString(option)
}

// short redacts options that only certain programs understand so.
func short(program, option, arg, otherwise string) string {
	switch {
	case strings.HasPrefix(program, "mysql") || strings.HasPrefix(program, "mariadb") || program == "sshpass":
		if strings.HasPrefix(arg, "-p") && len(arg) > 2 {
			return "-p" + redacted
		}
	case program == "curl" && strings.HasPrefix(arg, "-u") && strings.Contains(arg, ":"):
		user, _, _ := strings.Cut(arg, ":")
		return user + ":" + redacted
	}
	switch option {
	case "-u", "-U", "--user", "--proxy-user", "--creds", "--src-creds", "--dest-creds":
		if user, _, ok := strings.Cut(arg, ":"); ok {
			return user + ":" + redacted
		}
	}
	for _, prefix := range []string{"--user=", "--proxy-user=", "--creds="} {
		if v, ok := strings.CutPrefix(arg, prefix); ok && strings.Contains(v, ":") {
			user, _, _ := strings.Cut(v, ":")
			return prefix + user + ":" + redacted
		}
	}
	return otherwise
}

func (r *redactor) argument(a string) string {
	// What stands alone has no end but that of the argument.
	if names(a) {
		for _, re := range []*regexp.Regexp{r.assignment, r.header} {
			if m := re.FindStringSubmatchIndex(a); m != nil {
				return a[:m[3]] + redacted
			}
		}
	}
	for _, p := range r.inside {
		if p.maybe(a) {
			a = p.re.ReplaceAllString(a, p.with)
		}
	}
	if !long(a) {
		return a
	}
	return r.run.ReplaceAllStringFunc(a, func(s string) string {
		if random(s) {
			return redacted
		}
		return s
	})
}

// random says that s looks like a key rather than like words, paths and
// versions: judged as a whole when it mixes cases and digits, else by its parts.
func random(s string) bool {
	if l, u, d := kinds(s); l > 0 && u > 0 && d > 0 && len(s) >= 32 && s[0] != '/' && entropy(s) >= 4.3 {
		return true
	}
	for _, part := range strings.FieldsFunc(s, func(c rune) bool { return c == '/' || c == '-' || c == '_' || c == '=' }) {
		l, u, d := kinds(part)
		switch {
		case len(part) < 20 || d == 0 || l+u == 0:
		case l > 0 && u > 0 && entropy(part) >= 3.5:
			return true
		case d >= 4 && len(part) >= 24 && entropy(part) >= 3.3:
			return true
		}
	}
	return false
}

// kinds counts the letters and digits of s.
func kinds(s string) (lower, upper, digit int) {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z':
			lower++
		case 'A' <= c && c <= 'Z':
			upper++
		case '0' <= c && c <= '9':
			digit++
		}
	}
	return lower, upper, digit
}

// entropy is in bits per byte, after Shannon.
func entropy(s string) float64 {
	var counts [256]int
	for _, c := range []byte(s) {
		counts[c]++
	}
	sum, n := 0.0, float64(len(s))
	for _, c := range counts {
		if c > 0 {
			p := float64(c) / n
			sum -= p * math.Log2(p)
		}
	}
	return sum
}
