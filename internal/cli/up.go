package cli

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	units "github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/buildcage/buildcage/internal/buildx"
	"github.com/buildcage/buildcage/internal/docker"
	"github.com/buildcage/buildcage/internal/localimage"
	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/internal/runner"
)

// up is one use of "up".
type up struct {
	*stays
	name        string
	idle        time.Duration
	cacheMax    string
	parallelism int
	flags       buildFlags
}

const (
	defaultIdle = 30 * time.Minute
	// defaultCacheMax is what a cache may hold: several large images and their packages.
	defaultCacheMax = "20GB"
)

func (u *up) install(flags *pflag.FlagSet) {
	f := &u.flags
	flags.StringVar(&u.name, "name", defaultCage, "`NAME` of the cage and of its builder")
	flags.DurationVar(&u.idle, "idle", defaultIdle, "End the cage after this `TIME` without a build; 0: never")
	flags.StringVar(&u.cacheMax, "cache-max", defaultCacheMax, "Keep at most `SIZE` of build cache")
	flags.IntVar(&u.parallelism, "max-parallelism", 0, "Run at most `N` steps at once; 0: as many as BuildKit likes")
	flags.StringVar(&f.config, "config", "", "Policy `FILE` for builds that bring none of their own (default: buildcage.yaml in the working directory)")
	flags.StringArrayVar(&f.https, "allow-https", nil, "Allow TLS to `HOST[:PORT]` by server name; repeatable")
	flags.StringArrayVar(&f.http, "allow-http", nil, "Allow plain HTTP to `HOST[:PORT]`; repeatable")
	flags.StringArrayVar(&f.tcp, "allow-tcp", nil, "Allow any TCP protocol to `HOST:PORT`, by name; repeatable")
	flags.StringArrayVar(&f.ip, "allow-ip", nil, "Allow connections to `ADDRESS:PORT` or NETWORK:PORT; repeatable")
	flags.StringArrayVar(&f.extraCA, "extra-ca", nil, "`FILE` of PEM certificates that the builder shall trust; repeatable")
	flags.BoolVarP(&f.debug, "debug", "D", false, "Show the cage's diagnostics while it starts")
	flags.StringVar(&f.upstream, "upstream-proxy", "", "Ask the proxy at `URL`, http://[USER:PASSWORD@]HOST:PORT, to connect to what is allowed (default: HTTPS_PROXY and NO_PROXY); none: nobody")
	flags.StringVar(&f.network, "cage-network", "", "`NETWORK` of the engine to put the cage on")
	flags.StringArrayVar(&f.resolvers, "cage-resolver", nil, "Resolver of the cage, as `ADDRESS:PORT`; repeatable")
	for _, hidden := range []string{"cage-network", "cage-resolver"} {
		flags.Lookup(hidden).Hidden = true
	}
}

func (a *app) upCommand() (*cobra.Command, error) {
	u := &up{}
	cmd := &cobra.Command{
		Use:   "up [flags]",
		Short: "Start a cage that stays, as a builder of docker buildx",
		Long: `Start a cage that stays, as a named builder: docker buildx build --builder NAME,
docker buildx bake, Compose and IDEs build in it, under the policy that it is
started with. buildcage build --cage NAME builds in it under a policy and with
a report of its own, and needs no time to start.

The cage comes back when its engine is started again. It ends by itself when
nobody has built for the time of --idle.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if u.stays, err = a.upStays(cmd.Context(), u.name); err != nil {
				return err
			}
			return u.run(cmd.Context())
		},
	}
	u.install(cmd.Flags())
	return cmd, nil
}

func (a *app) upStays(ctx context.Context, name string) (*stays, error) {
	if err := checkStayName(name); err != nil {
		return nil, err
	}
	return a.stays(ctx)
}

func (u *up) run(ctx context.Context) error {
	options, err := u.options()
	if err != nil {
		return err
	}
	if err := buildx.CheckName(u.docker, u.name); err != nil {
		return err
	}
	if err := u.replaceDead(ctx); err != nil {
		return err
	}
	progress := newProgress(u.streams, false)
	options.Progress = progress.step
	compiled, err := policy.Compile(options.Policy)
	if err != nil {
		return err
	}
	stay := docker.Stay{Name: u.name, Mode: string(compiled.Mode()), Digest: compiled.Digest()}
	cage, err := runner.Raise(ctx, options, stay, u.idle)
	progress.clear()
	if err != nil {
		return err
	}
	if err := buildx.AddBuilder(u.docker, u.name, cage.Name); err != nil {
		return err
	}
	u.note(fmt.Sprintf("cage %s is up, BuildKit %s, %s", u.name, cage.BuildKit, compiled.Mode()))
	u.note(fmt.Sprintf("docker buildx build --builder %s …, buildcage build --cage %s …, or eval \"$(buildcage env %s)\"", u.name, u.name, u.name))
	return nil
}

// replaceDead removes a cage of that name which does not run and will not.
func (u *up) replaceDead(ctx context.Context) error {
	old, err := u.engine.FindStay(ctx, u.name)
	if err != nil || old == nil || old.State != "exited" && old.State != "dead" && old.State != "created" {
		return err
	}
	return u.engine.RemoveStay(ctx, old)
}

// options reads the policy of the cage.
func (u *up) options() (runner.Options, error) {
	limit, err := parseSize(u.cacheMax)
	if err != nil {
		return runner.Options{}, err
	}
	if u.idle < 0 {
		return runner.Options{}, usagef("0 is never", "--idle %s is negative", u.idle)
	}
	b := &build{app: u.app, mode: policy.Restrict, flags: u.flags, input: &localimage.Input{}}
	if err := b.loadPolicy(); err != nil {
		return runner.Options{}, err
	}
	if b.policy.spec.SelectsLines() {
		return runner.Options{}, usagef("select with run: or stage:, or let buildcage build bring the policy",
			"%s selects steps by lines, and a cage that stays has no Dockerfile", b.policy.path)
	}
	options := runner.Options{
		Engine: u.engine, Image: u.image, Version: u.versions().Version, Policy: b.policy.spec,
		ExtraCA: append(b.policy.extraCA, u.flags.extraCA...), Network: u.flags.network,
		Debug: u.flags.debug, Diagnostics: b.diagnostics(), CacheMax: limit, Parallelism: u.parallelism,
	}
	if options.Proxy, err = u.upstreamProxy(u.flags.upstream, os.Getenv); err != nil {
		return options, err
	}
	for _, text := range u.flags.resolvers {
		at, err := netip.ParseAddrPort(text)
		if err != nil {
			return options, usagef("write it as address:port, for example 192.0.2.53:53", "--cage-resolver %q is no address with a port", text)
		}
		options.Resolvers = append(options.Resolvers, at)
	}
	return options, nil
}

// minCache is below what a build needs to work at all.
const minCache = 100_000_000

func parseSize(text string) (int64, error) {
	n, err := units.FromHumanSize(strings.TrimSpace(text))
	if err != nil || n < minCache {
		return 0, usagef("write a size of 100MB or more, for example 20GB", "--cache-max %q is no size for a cache", text)
	}
	return n, nil
}
