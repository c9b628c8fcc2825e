package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/docker/cli/cli-plugins/socket"
	dockerconfig "github.com/docker/cli/cli/config"
	"github.com/spf13/cobra"

	"github.com/buildcage/buildcage/internal/plugin"
)

// plugin is a call as docker cage. docker's own flags become what they mean in
// the environment. It closes its socket when it is told to end and no terminal
// would tell this program, too.
func (a *app) plugin(args []string) int {
	call, err := plugin.Parse(args)
	if err != nil {
		return a.fail(&usageError{msg: err.Error(), hint: hintOf(err), err: err})
	}
	if call.Metadata {
		return a.fail(plugin.Metadata(a.streams.out, a.versions().Version))
	}
	for name, value := range call.Env {
		set := os.Setenv
		if value == "" {
			set = func(name, _ string) error { return os.Unsetenv(name) }
		}
		if err := set(name, value); err != nil {
			return a.fail(fmt.Errorf("setting %s: %w", name, err))
		}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	socket.ConnectAndWait(func() { cancel(errInterrupted) })
	a.name = "docker " + plugin.Name
	return a.main(ctx, call.Args)
}

// installing is one use of "install-plugin".
type installing struct {
	*app
	plugin.Installation
	alias, uninstall bool
}

func (a *app) installPluginCommand() (*cobra.Command, error) {
	x := &installing{app: a}
	cmd := &cobra.Command{
		Use:   "install-plugin [flags]",
		Short: "Make this program the command docker cage, and docker build a caged one",
		Long: `Link this program into the plugins of the docker command, so that docker cage
build is buildcage build. With --alias, "aliases": {"builder": "cage"} in
Docker's configuration makes plain docker build run in a cage, too. Nothing
else of the configuration changes.`,
		Args:                  noArgs,
		DisableFlagsInUseLine: true,
		RunE:                  func(*cobra.Command, []string) error { return x.run() },
	}
	f := cmd.Flags()
	f.BoolVar(&x.alias, "alias", false, "Make docker build and docker image build caged")
	f.BoolVar(&x.uninstall, "uninstall", false, "Remove the plugin and the alias")
	f.BoolVar(&x.Copy, "copy", false, "Copy the program instead of linking it")
	f.BoolVar(&x.Force, "force", false, "Replace a plugin or an alias that is something else")
	return cmd, nil
}

func (x *installing) run() (err error) {
	x.Dir = dockerconfig.Dir()
	if x.Program, err = os.Executable(); err == nil {
		x.Program, err = filepath.EvalSymlinks(x.Program)
	}
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	if x.uninstall {
		return x.remove()
	}
	if err := told(x.Install()); err != nil {
		return err
	}
	x.note("docker cage is " + x.Path())
	if !x.alias {
		return nil
	}
	changed, err := x.setAlias(true)
	if err == nil && changed {
		x.note("docker build is caged now, by " + x.ConfigPath())
	}
	return err
}

func (x *installing) remove() error {
	changed, err := x.setAlias(false)
	if err != nil {
		return err
	}
	if changed {
		x.note("docker build is docker's own again")
	}
	removed, err := x.Uninstall()
	if err == nil && removed {
		x.note(x.Path() + " is removed")
	}
	return err
}

// setAlias edits Docker's configuration, which it replaces as a whole.
func (x *installing) setAlias(set bool) (changed bool, err error) {
	data, err := os.ReadFile(x.ConfigPath())
	fresh := errors.Is(err, fs.ErrNotExist)
	if err != nil && !fresh {
		return false, fmt.Errorf("reading Docker's configuration: %w", err)
	}
	out, changed, err := x.Alias(data, set)
	if err != nil || !changed {
		return false, told(err)
	}
	target, err := openTarget(x.ConfigPath(), "--alias")
	if err != nil {
		return false, err
	}
	if fresh {
		target.mode = 0o600 // it may get credentials
	}
	return true, target.save(func(w io.Writer) error { _, err := w.Write(out); return err })
}

// told makes a plugin's error one of usage.
func told(err error) error {
	var e *plugin.Error
	if errors.As(err, &e) {
		return &usageError{msg: e.Error(), hint: e.Hint(), err: err}
	}
	return err
}
