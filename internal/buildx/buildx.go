// Package buildx runs docker buildx's own build command inside this process
// against one BuildKit endpoint. The command, its flags and its output are
// buildx's; this package decides where its state lives, which of its flags a
// cage can't honour, and what it may not do on the side: no telemetry, no
// signal handler, no exit, nothing written to the user's Docker configuration.
package buildx

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/docker/buildx/commands"
	"github.com/docker/buildx/store"
	"github.com/docker/buildx/util/confutil"
	"github.com/docker/cli/cli/command"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.opentelemetry.io/otel"

	// The only driver a cage needs; it takes unix:// endpoints.
	_ "github.com/docker/buildx/driver/remote"
	// buildx's messages use vtprotobuf and need BuildKit's codec.
	_ "github.com/moby/buildkit/util/grpcutil/encoding/proto"
)

// builderName is what buildx's progress calls the builder.
const builderName = "buildcage"

// Command is one use of buildx's build command. Its flags are live: parsing
// them configures the command.
type Command struct {
	// Notes appear in the progress of the next Run, which must be one for a
	// terminal; nil: none.
	Notes *Notes

	root   *cobra.Command
	build  *cobra.Command
	driver map[string]string // options
}

// New returns buildx's build command for a Docker CLI, which need not be
// initialized before Run.
func New(cli *command.DockerCli) (*Command, error) {
	root := commands.NewRootCmd(builderName, false, cli)
	build, _, err := root.Find([]string{"build"})
	if err != nil {
		return nil, fmt.Errorf("finding buildx's build command: %w", err)
	}
	return &Command{root: root, build: build}, nil
}

// Flags are the flags of the build command, hidden ones included.
func (c *Command) Flags() *pflag.FlagSet { return c.build.Flags() }

// Endpoint is where BuildKit answers.
type Endpoint struct {
	Addr string // unix:///…
	Dir  string // an existing directory, private to the run, for buildx's state
}

// Run builds at the endpoint with the flags as they are: the context, or targets. It
// returns buildx's error unchanged: see Exit and Print. The caller owns
// signals; cancelling ctx stops the build.
func (c *Command) Run(ctx context.Context, at Endpoint, args ...string) error {
	dir := filepath.Join(at.Dir, "buildx")
	if err := register(dir, at.Addr, c.driver); err != nil {
		return err
	}
	restore, err := environ(map[string]string{
		"BUILDX_CONFIG":        dir,    // all of buildx's state
		"OTEL_TRACES_EXPORTER": "none", // no spans to wherever the user's own programs send theirs
	})
	if err != nil {
		return err
	}
	defer restore()
	withdraw, err := inject(c.Notes)
	if err != nil {
		return err
	}
	defer withdraw()
	// Spans go to BuildKit itself; when it is gone its errors are not news.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { logrus.Debug(err) }))
	if err := c.root.PersistentFlags().Set("builder", builderName); err != nil {
		return fmt.Errorf("choosing the builder: %w", err)
	}
	// The command's own RunE, not root.Execute: buildx's root installs a
	// signal handler that exits the process at the third Ctrl-C.
	c.build.SetContext(ctx)
	return c.build.RunE(c.build, args)
}

// register writes a store under dir that holds one builder.
func register(dir, addr string, opts map[string]string) error {
	cfg := confutil.NewConfig(nil, confutil.WithDir(dir))
	st, err := store.New(cfg)
	if err != nil {
		return fmt.Errorf("creating the builder store: %w", err)
	}
	txn, release, err := st.Txn()
	if err != nil {
		return fmt.Errorf("locking the builder store: %w", err)
	}
	defer release()
	group := &store.NodeGroup{
		Name: builderName, Driver: driverName,
		Nodes: []store.Node{{Name: builderName + "0", Endpoint: addr, DriverOpts: opts}},
	}
	if err := txn.Save(group); err != nil {
		return fmt.Errorf("registering the cage as a builder: %w", err)
	}
	return writeNodeID(dir)
}

// environ sets variables and returns what puts the old ones back.
func environ(vars map[string]string) (restore func(), err error) {
	var undo []func()
	restore = func() {
		for _, f := range undo {
			f()
		}
	}
	for k, v := range vars {
		old, had := os.LookupEnv(k)
		if err := os.Setenv(k, v); err != nil {
			restore()
			return nil, fmt.Errorf("setting %s: %w", k, err)
		}
		undo = append(undo, func() {
			if had {
				_ = os.Setenv(k, old)
			} else {
				_ = os.Unsetenv(k)
			}
		})
	}
	return restore, nil
}
