package buildx

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/docker/buildx/bake"
	"github.com/docker/buildx/commands"
	"github.com/docker/cli/cli/command"
)

// NewBake returns buildx's bake command.
func NewBake(cli *command.DockerCli) (*Command, error) {
	root := commands.NewRootCmd(builderName, false, cli)
	cmd, _, err := root.Find([]string{"bake"})
	if err != nil {
		return nil, fmt.Errorf("finding buildx's bake command: %w", err)
	}
	// What has no output of its own is loaded, as with docker build.
	return &Command{root: root, build: cmd, driver: map[string]string{"default-load": "true"}}, nil
}

// Target is one build of a bake definition.
type Target struct {
	Name       string
	Context    string
	Dockerfile string
	Stage      string
	Args       map[string]string
	Contexts   []string // names
	Platforms  []string
	Network    string
	Extra      []string // entitlements
}

// Targets reads the definition as bake will. Nil where only bake can: a
// definition that is somewhere else, or on standard input.
func (c *Command) Targets(ctx context.Context, args []string) ([]Target, error) {
	for _, a := range args {
		if strings.Contains(a, "://") || strings.HasPrefix(a, "git@") {
			return nil, nil
		}
	}
	names := c.List("file")
	for _, name := range names {
		if name == "-" || strings.Contains(name, "://") {
			return nil, nil
		}
	}
	if len(names) == 0 && os.Getenv("BUILDX_BAKE_FILE") != "" {
		return nil, nil
	}
	files, err := bake.ReadLocalFiles(names, nil, nil)
	if err != nil {
		return nil, &UsageError{msg: fmt.Sprintf("reading the bake definition: %v", err), hint: "name it with --file", err: err}
	}
	if len(args) == 0 {
		args = []string{"default"}
	}
	vars := make(map[string]string)
	for _, v := range c.List("var") {
		key, value, _ := strings.Cut(v, "=")
		vars[key] = value
	}
	wd, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("reading the bake definition: %w", err)
	}
	ent := &bake.EntitlementConf{FSRead: []string{wd}, FSWrite: []string{wd}}
	found, _, err := bake.ReadTargets(ctx, files, args, c.List("set"), map[string]string{"BAKE_CMD_CONTEXT": "cwd://"}, vars, ent)
	if err != nil {
		return nil, &UsageError{msg: fmt.Sprintf("reading the bake definition: %v", err), hint: "docker buildx bake --print shows what it comes to", err: err}
	}
	var list []Target
	for name, t := range found {
		list = append(list, targetOf(name, t))
	}
	return list, nil
}

func targetOf(name string, t *bake.Target) Target {
	one := Target{Name: name, Context: ".", Args: make(map[string]string), Platforms: t.Platforms, Extra: t.Entitlements}
	if t.Context != nil && *t.Context != "" {
		one.Context = *t.Context
	}
	if t.Dockerfile != nil {
		one.Dockerfile = *t.Dockerfile
	}
	if t.Target != nil {
		one.Stage = *t.Target
	}
	if t.NetworkMode != nil {
		one.Network = *t.NetworkMode
	}
	for k, v := range t.Args {
		if v != nil {
			one.Args[k] = *v
		}
	}
	for k := range t.Contexts {
		one.Contexts = append(one.Contexts, k)
	}
	return one
}

// CheckTargets refuses what a definition asks for and a cage has not. The front
// door of the cage refuses it, too; here it costs nothing yet.
func CheckTargets(targets []Target) error {
	for _, t := range targets {
		switch t.Network {
		case "", "default", "none":
		default:
			return &UsageError{
				msg:  fmt.Sprintf("target %q: network %q would let steps leave the cage", t.Name, t.Network),
				hint: "allow the destinations they need in buildcage.yaml instead",
			}
		}
		for _, e := range t.Extra {
			return &UsageError{
				msg:  fmt.Sprintf("target %q: entitlement %q is not available in a cage", t.Name, e),
				hint: "take it out of the definition; a cage grants no entitlements",
			}
		}
	}
	return nil
}

// Lend gives a target a named context that is a directory of the caller's.
func (c *Command) Lend(target, name, source, dir string) error {
	return errors.Join(
		c.Flags().Set("set", target+".contexts."+name+"="+source),
		c.Flags().Set("allow", "fs.read="+dir),
	)
}

// Prints says that bake is asked about the definition and builds nothing.
func (c *Command) Prints() bool { return c.On("print") || c.Value("list") != "" }

// Tell runs bake without a builder.
func (c *Command) Tell(ctx context.Context, args []string) error {
	c.build.SetContext(ctx)
	return c.build.RunE(c.build, args)
}
