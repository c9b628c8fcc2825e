package buildx

import (
	"fmt"
	"strings"

	"github.com/docker/buildx/util/buildflags"
	"github.com/docker/buildx/util/platformutil"
)

// UsageError is a flag that can't be honoured. It is found before anything runs.
type UsageError struct {
	msg, hint string
	err       error
}

func (e *UsageError) Error() string { return e.msg }
func (e *UsageError) Hint() string  { return e.hint }
func (e *UsageError) Unwrap() error { return e.err }

// Check refuses what would open the cage, then everything that buildx would
// refuse only after the cage has started.
func (c *Command) Check() error {
	for _, check := range []func() error{c.checkAllow, c.checkNetwork, c.checkProgress, c.checkSyntax} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// checkAllow is an allowlist: an entitlement that is not known to be harmless
// is refused.
func (c *Command) checkAllow() error {
	for _, v := range c.List("allow") {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "", buildflags.EntitlementBuildxLocalDelete, "fs", "fs.read", "fs.write", "ssh": // about what is the caller's
		case "network.host":
			return &UsageError{
				msg:  "--allow network.host would let steps leave the cage",
				hint: "allow the destinations they need instead, for example --allow-https example.com",
			}
		case "security.insecure":
			return &UsageError{
				msg:  "--allow security.insecure would let steps change the cage",
				hint: "build without it; a step that needs full privileges can't be caged",
			}
		default:
			return &UsageError{
				msg:  fmt.Sprintf("--allow %q is not available in a cage", v),
				hint: "build without it; a cage grants no entitlements",
			}
		}
	}
	return nil
}

func (c *Command) checkNetwork() error {
	switch mode := c.Value("network"); mode {
	case "", "default", "none":
		return nil
	case "host":
		return &UsageError{
			msg:  "--network host would let steps leave the cage",
			hint: "allow the destinations they need instead, for example --allow-https example.com",
		}
	default:
		return &UsageError{
			msg:  fmt.Sprintf("--network %q is not available in a cage", mode),
			hint: "use --network none or leave it out",
		}
	}
}

func (c *Command) checkProgress() error {
	mode := c.Value("progress")
	switch mode {
	case "", "auto", "none", "plain", "quiet", "rawjson", "tty":
	default:
		return &UsageError{
			msg:  fmt.Sprintf("--progress %q is not a known mode", mode),
			hint: "use auto, plain, tty, quiet, rawjson or none",
		}
	}
	if c.Value("quiet") == "true" && mode != "" && mode != "auto" && mode != "quiet" {
		return &UsageError{msg: fmt.Sprintf("--quiet and --progress %s exclude each other", mode), hint: "leave one of them out"}
	}
	return nil
}

// checkSyntax parses structured values with buildx's own parsers.
func (c *Command) checkSyntax() error {
	checks := []struct {
		flag  string
		parse func([]string) error
	}{
		{"output", discard(buildflags.ParseExports)},
		{"secret", discard(buildflags.ParseSecretSpecs)},
		{"ssh", discard(buildflags.ParseSSHSpecs)},
		{"attest", discard(buildflags.ParseAttests)},
		{"build-context", discard(buildflags.ParseContextNames)},
		{"cache-from", discard(buildflags.ParseCacheEntry)},
		{"cache-to", discard(buildflags.ParseCacheEntry)},
		{"annotation", discard(buildflags.ParseAnnotations)},
		{"policy", discard(buildflags.ParsePolicyConfigs)},
		{"platform", discard(platformutil.Parse)},
	}
	for _, ch := range checks {
		if err := ch.parse(c.List(ch.flag)); err != nil {
			return malformed(ch.flag, err)
		}
	}
	if _, err := buildflags.ParseCallFunc(c.Value("call")); err != nil {
		return malformed("call", err)
	}
	return nil
}

func malformed(flag string, err error) error {
	return &UsageError{
		msg:  fmt.Sprintf("--%s: %v", flag, err),
		hint: "see buildcage build --help for the format",
		err:  err,
	}
}

func discard[T any](parse func([]string) (T, error)) func([]string) error {
	return func(in []string) error {
		_, err := parse(in)
		return err
	}
}

// List and Value read a flag; an unknown flag is empty.
func (c *Command) List(name string) []string {
	v, err := c.Flags().GetStringArray(name)
	if err != nil {
		return nil
	}
	return v
}

func (c *Command) Value(name string) string {
	if f := c.Flags().Lookup(name); f != nil {
		return f.Value.String()
	}
	return ""
}
