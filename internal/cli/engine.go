package cli

import (
	"context"
	"io"

	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/flags"
	dockerstreams "github.com/docker/cli/cli/streams"
	"github.com/spf13/pflag"

	"github.com/buildcage/buildcage/internal/docker"
)

// connect initializes the Docker CLI that buildx uses, with the context, host
// and credentials that docker itself would use, and returns the engine behind
// it. No request is made yet.
func connect(ctx context.Context, cli *command.DockerCli, stdin io.Reader) (*docker.Engine, error) {
	opts := flags.NewClientOptions()
	env := pflag.NewFlagSet("docker", pflag.ContinueOnError)
	opts.InstallFlags(env) // reads DOCKER_TLS, DOCKER_CERT_PATH, …
	opts.SetDefaultOptions(env)
	// Made here because the CLI's own way ends the process when it fails.
	api, err := command.NewAPIClientFromFlags(opts, config.LoadDefaultConfigFile(cli.Err()))
	if err != nil {
		return nil, &usageError{
			msg:  "choosing a Docker engine: " + err.Error(),
			hint: "see docker context ls, DOCKER_HOST and DOCKER_CONTEXT",
			err:  err,
		}
	}
	if err := cli.Initialize(opts, command.WithBaseContext(ctx), command.WithAPIClient(api)); err != nil {
		return nil, err
	}
	cli.SetIn(dockerstreams.NewIn(io.NopCloser(stdin)))
	return &docker.Engine{Client: api}, nil
}
