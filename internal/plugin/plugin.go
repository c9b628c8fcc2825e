// Package plugin makes the program a plugin of the docker command: docker cage.
// It knows what docker passes to a plugin, and where plugins are installed. With
// the alias "builder", plain docker build is docker cage build.
package plugin

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/docker/cli/cli-plugins/metadata"
)

// Name is the command behind docker; the program is called docker-cage then.
const Name = "cage"

// Binary is the name of the plugin's file, without .exe.
const Binary = metadata.NamePrefix + Name

// Called reports whether argv0 is the plugin's name.
func Called(argv0 string) bool {
	return strings.TrimSuffix(filepath.Base(argv0), ".exe") == Binary
}

// Metadata answers docker's question who this is.
func Metadata(w io.Writer, version string) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(metadata.Metadata{
		SchemaVersion: "0.1.0", Vendor: "buildcage", Version: version,
		ShortDescription: "docker build in a cage that reaches only what an allowlist names",
	})
}

// Error is a call that can't be carried out.
type Error struct{ msg, hint string }

func (e *Error) Error() string { return e.msg }
func (e *Error) Hint() string  { return e.hint }

// Call is what docker passes to the plugin.
type Call struct {
	Metadata bool
	Args     []string          // for the program itself
	Env      map[string]string // what docker's own flags mean; "" unsets
}

// Parse reads the arguments of a plugin: docker's own flags, "cage", the rest.
// A completion request stands in front of all.
func Parse(args []string) (*Call, error) {
	c := &Call{Env: map[string]string{}}
	if len(args) > 0 && args[0] == metadata.MetadataSubcommandName {
		c.Metadata = true
		return c, nil
	}
	if len(args) > 0 && strings.HasPrefix(args[0], "__complete") {
		c.Args, args = args[:1:1], args[1:]
	}
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		n, err := c.flag(args)
		if err != nil {
			return nil, err
		}
		args = args[n:]
	}
	if len(args) > 0 && args[0] == Name {
		args = args[1:]
	}
	c.Args = append(c.Args, args...)
	return c, nil
}

// flag takes one of docker's flags and returns how many arguments it had.
func (c *Call) flag(args []string) (int, error) {
	name, value, given := strings.Cut(args[0], "=")
	if !strings.HasPrefix(name, "--") && len(name) > 2 { // -Hunix:///x
		name, value, given = args[0][:2], strings.TrimPrefix(args[0][2:], "="), true
	}
	switch name {
	case "-D", "--debug":
		return 1, nil
	case "-h", "--help", "-v", "--version":
		c.Args = append(c.Args, name)
		return 1, nil
	case "--tls", "--tlsverify", "--tlscacert", "--tlscert", "--tlskey":
		return 0, &Error{name + " is not available here", "use a docker context, or DOCKER_TLS_VERIFY and DOCKER_CERT_PATH"}
	}
	n := 1
	if !given {
		if len(args) < 2 {
			return 0, &Error{"no value for " + name, "see docker --help"}
		}
		value, n = args[1], 2
	}
	switch name {
	case "-l", "--log-level":
	case "--config":
		c.Env["DOCKER_CONFIG"] = value
	case "-c", "--context":
		c.Env["DOCKER_CONTEXT"], c.Env["DOCKER_HOST"] = value, ""
	case "-H", "--host":
		c.Env["DOCKER_HOST"], c.Env["DOCKER_CONTEXT"] = value, ""
	default:
		return 0, &Error{fmt.Sprintf("unknown flag %q of docker", name), "put flags of the build behind the command"}
	}
	return n, nil
}
