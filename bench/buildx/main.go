// Command buildx is docker buildx as it comes, from the library that the
// program under test is made of: the other side of a build in a warm cage.
package main

import (
	"fmt"
	"os"

	"github.com/docker/buildx/commands"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/cli/flags"

	_ "github.com/docker/buildx/driver/docker-container"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "buildx: error: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	cli, err := command.NewDockerCli()
	if err != nil {
		return err
	}
	if err := cli.Initialize(flags.NewClientOptions()); err != nil {
		return err
	}
	root := commands.NewRootCmd("buildx", false, cli)
	root.SetArgs(os.Args[1:])
	root.SilenceUsage, root.SilenceErrors = true, true
	return root.Execute()
}
