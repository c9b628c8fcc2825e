package buildx

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/docker/buildx/util/buildflags"
)

// LoadByDefault loads the result into the engine, as docker build does, unless
// the flags say where it goes. A result for several platforms is not loaded:
// not every engine can hold it.
func (c *Command) LoadByDefault() error {
	if c.Flags().Lookup("output") == nil || !c.wantsLoad() {
		return nil // bake asks the driver
	}
	for flag, value := range map[string]string{"load": "false", "output": loadOutput} {
		if err := c.Flags().Set(flag, value); err != nil {
			return fmt.Errorf("setting --%s: %w", flag, err)
		}
	}
	return nil
}

// loadOutput is --load without its compression: the engine unpacks at once
// what BuildKit would spend most of the export on packing.
const loadOutput = "type=docker,compression=uncompressed"

func (c *Command) wantsLoad() bool {
	if c.On("push") || len(c.List("output")) > 0 || c.Calls() {
		return false
	}
	if c.Flags().Changed("load") {
		return c.On("load")
	}
	return len(c.Platforms()) < 2
}

// Calls says that the flags ask about the build (--call, --check, --print)
// instead of running it.
func (c *Command) Calls() bool {
	call, err := buildflags.ParseCallFunc(c.Value("call"))
	return err == nil && call != nil
}

// Silent says that the progress display is off or meant for a program.
func (c *Command) Silent() bool {
	if c.On("quiet") {
		return true
	}
	mode := c.display()
	return mode == "quiet" || mode == "none" || mode == "rawjson"
}

// Redraws says that the progress display is the one that redraws the screen,
// given that standard error is a terminal.
func (c *Command) Redraws() bool {
	mode := c.display()
	return !c.On("quiet") && (mode == "auto" || mode == "tty")
}

// display is the mode of the progress display, "auto" where nobody says.
func (c *Command) display() string {
	mode := c.Value("progress")
	if env := os.Getenv("BUILDKIT_PROGRESS"); mode == "auto" && env != "" {
		mode = env
	}
	return mode
}

// Stdout says that the build writes its own product to standard output: an
// exported archive, an image id, an answer.
func (c *Command) Stdout() bool {
	if c.On("quiet") || c.Calls() {
		return true
	}
	exports, err := buildflags.ParseExports(c.List("output"))
	if err != nil {
		return false
	}
	for _, e := range exports {
		switch e.Type {
		case "tar", "oci":
			if e.Destination == "" || e.Destination == "-" {
				return true
			}
		case "docker":
			if e.Destination == "-" {
				return true
			}
		}
	}
	return false
}

// Platforms are the requested platforms, empty for the engine's own.
func (c *Command) Platforms() []string {
	var out []string
	for _, v := range c.List("platform") {
		for p := range strings.SplitSeq(v, ",") {
			if p = strings.TrimSpace(p); p != "" {
				out = append(out, p)
			}
		}
	}
	return out
}

// Refresh makes the build run every step again unless the flags speak of the
// cache themselves.
func (c *Command) Refresh() error {
	if c.CacheFlags() || c.Calls() {
		return nil
	}
	if err := c.Flags().Set("no-cache", "true"); err != nil {
		return fmt.Errorf("setting --no-cache: %w", err)
	}
	return nil
}

// CacheFlags reports whether the flags say which steps run again.
func (c *Command) CacheFlags() bool {
	return c.Flags().Changed("no-cache") || len(c.List("no-cache-filter")) > 0
}

// On reads a boolean flag.
func (c *Command) On(name string) bool {
	v, err := strconv.ParseBool(c.Value(name))
	return err == nil && v
}

// BuildArgs are the values of --build-arg; one without a value takes it from
// the environment.
func (c *Command) BuildArgs() map[string]string {
	out := map[string]string{}
	for _, v := range c.List("build-arg") {
		k, value, ok := strings.Cut(v, "=")
		if !ok {
			if value, ok = os.LookupEnv(k); !ok {
				continue
			}
		}
		out[k] = value
	}
	return out
}

// AddContext adds a named build context.
func (c *Command) AddContext(name, source string) error {
	if err := c.Flags().Set("build-context", name+"="+source); err != nil {
		return fmt.Errorf("adding build context %s: %w", name, err)
	}
	return nil
}
