package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/docker/cli/cli/command"
	"github.com/spf13/cobra"

	"github.com/buildcage/buildcage/internal/buildx"
	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/docker"
)

// stays is what the commands about cages that stay share.
type stays struct {
	*app
	docker *command.DockerCli
	engine *docker.Engine
}

// defaultCage is the name of a cage that nobody named.
const defaultCage = "cage"

// askTime bounds how long a cage may take to say what it is doing.
const askTime = 5 * time.Second

func (a *app) stays(ctx context.Context) (*stays, error) {
	cli, err := command.NewDockerCli()
	if err != nil {
		return nil, fmt.Errorf("preparing the Docker client: %w", err)
	}
	engine, err := connect(ctx, cli, a.streams.in)
	if err != nil {
		return nil, err
	}
	if _, err := engine.Check(ctx, ""); err != nil {
		return nil, err
	}
	return &stays{app: a, docker: cli, engine: engine}, nil
}

// stayCommand is a command with an engine and the name of at most one cage.
func (a *app) stayCommand(use, short, long string, run func(ctx context.Context, s *stays, name string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef(seeHelp(cmd), "one name is expected, got %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.stays(cmd.Context())
			if err != nil {
				return err
			}
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			return run(cmd.Context(), s, name)
		},
	}
}

// checkStayName keeps names that mean something else.
func checkStayName(name string) error {
	switch {
	case name == "new", name == "none", name == "default":
		return usagef("choose another name", "%q can't be the name of a cage", name)
	case name == "" || len(name) > 40 || strings.Trim(name[:1], "abcdefghijklmnopqrstuvwxyz") != "" ||
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "":
		return usagef("a name is a small letter, then small letters, digits, - and _, at most 40", "%q is no name for a cage", name)
	}
	return nil
}

// one is the cage of that name, or the only one there is.
func (s *stays) one(ctx context.Context, name string) (*docker.Staying, error) {
	if name != "" {
		if err := checkStayName(name); err != nil {
			return nil, err
		}
		found, err := s.engine.FindStay(ctx, name)
		if err == nil && found == nil {
			err = usagef("buildcage ls lists the cages, buildcage up starts one", "there is no cage %q on this engine", name)
		}
		return found, err
	}
	all, err := s.engine.Stays(ctx)
	switch {
	case err != nil:
		return nil, err
	case len(all) == 0:
		return nil, usagef("buildcage up starts one", "no cage is up on this engine")
	case len(all) > 1:
		return nil, usagef("say which: "+names(all), "%d cages are up", len(all))
	}
	return &all[0], nil
}

func names(all []docker.Staying) string {
	var list []string
	for _, s := range all {
		list = append(list, s.Name)
	}
	return strings.Join(list, ", ")
}

// ask runs one of caged's own commands in a cage and returns what it says.
func (s *stays) ask(ctx context.Context, cage *docker.Staying, w io.Writer, command string, args ...string) error {
	c := s.engine.Open(ctx, cage)
	defer c.Close()
	stream, err := c.Exec(ctx, command, args...)
	if err != nil {
		return err
	}
	defer stream.Close()
	defer context.AfterFunc(ctx, func() { stream.Close() })()
	stream.CloseWrite()
	if _, err := io.Copy(w, stream); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	return stream.Wait(ctx)
}

func (s *stays) inventory(ctx context.Context, cage *docker.Staying) (contract.Inventory, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var answer bytes.Buffer
	var i contract.Inventory
	if err := s.ask(ctx, cage, &answer, contract.CommandInventory); err != nil {
		return i, err
	}
	return i, json.Unmarshal(answer.Bytes(), &i)
}

// downCommand ends cages.
func (a *app) downCommand() (*cobra.Command, error) {
	var all, volume bool
	cmd := a.stayCommand("down [NAME]", "End a cage that stays", `End the cage of that name, or the only one, and take its builder off buildx's
list. Builds in it fail. Its cache stays for the next time, unless --volume says
otherwise.`, func(ctx context.Context, s *stays, name string) error {
		if !all {
			cage, err := s.one(ctx, name)
			if err != nil {
				return err
			}
			return s.down(ctx, cage, volume)
		}
		list, err := s.engine.Stays(ctx)
		for i := range list {
			if err == nil {
				err = s.down(ctx, &list[i], volume)
			}
		}
		return err
	})
	cmd.Flags().BoolVar(&all, "all", false, "End every cage of this engine")
	cmd.Flags().BoolVar(&volume, "volume", false, "Remove the cache, too")
	return cmd, nil
}

func (s *stays) down(ctx context.Context, cage *docker.Staying, volume bool) error {
	if err := s.engine.RemoveStay(ctx, cage); err != nil {
		return err
	}
	was, err := buildx.RemoveBuilder(s.docker, cage.Name)
	if err != nil {
		return err
	}
	if volume {
		if err := s.engine.RemoveVolume(ctx, s.engine.StayVolume(cage.Name)); err != nil {
			return err
		}
	}
	s.note(fmt.Sprintf("cage %s is down", cage.Name))
	if was {
		s.warn(&hinted{fmt.Errorf("docker buildx used it"), "from now on plain docker buildx build builds without a cage"})
	}
	if os.Getenv(builderEnv) == cage.Name {
		s.note(builderEnv + " still names it: docker buildx fails until it is unset")
	}
	return nil
}

// builderEnv is the variable by which buildx chooses a builder.
const builderEnv = "BUILDX_BUILDER"

// envCommand prints what makes other programs build in a cage.
func (a *app) envCommand() (*cobra.Command, error) {
	var shell string
	cmd := a.stayCommand("env [NAME]", "Print what makes docker buildx, bake and Compose build in a cage", `Print the line for a shell to evaluate, for example eval "$(buildcage env)".
Then docker buildx, docker compose build and buildcage itself build in the cage.`,
		func(ctx context.Context, s *stays, name string) error {
			cage, err := s.one(ctx, name)
			if err != nil {
				return err
			}
			line, err := assignment(shell, builderEnv, cage.Name)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(s.streams.out, line)
			return err
		})
	cmd.Flags().StringVar(&shell, "shell", "sh", "`SHELL` to print for: sh, fish, powershell or cmd")
	return cmd, nil
}

// assignment sets a variable in the language of a shell. Names of cages need no
// quotes; they get them all the same.
func assignment(shell, name, value string) (string, error) {
	quoted := "'" + value + "'"
	switch shell {
	case "sh", "bash", "zsh", "dash", "ksh":
		return "export " + name + "=" + quoted, nil
	case "fish":
		return "set -gx " + name + " " + quoted + ";", nil
	case "powershell", "pwsh":
		return "$Env:" + name + " = " + quoted, nil
	case "cmd":
		return `SET "` + name + "=" + value + `"`, nil
	}
	return "", usagef("use sh, fish, powershell or cmd", "--shell %q is unknown", shell)
}
