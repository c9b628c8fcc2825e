package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/cli/debug"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/buildcage/buildcage/internal/buildx"
	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/docker"
	"github.com/buildcage/buildcage/internal/localimage"
	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/internal/report"
	"github.com/buildcage/buildcage/internal/runner"
)

// build is one use of "build" or "audit".
type build struct {
	*app
	mode   policy.Mode
	flags  buildFlags
	lock   locking
	docker *command.DockerCli
	buildx *buildx.Command

	contextPath string
	resolvers   []netip.AddrPort
	proxy       *contract.Proxy // in front of the network; nil: none
	input       *localimage.Input
	policy      *policyFile
	lent        []string // named contexts that are images of the engine
	outputs     *outputs
	write       *target         // of the allowlist; nil: none
	stay        *docker.Staying // to build in; nil: a cage of its own
	asker       *asker          // nil: nobody is asked
	cacheMax    int64
}

// buildFlags are ours; buildx has its own.
type buildFlags struct {
	config        string
	https         []string
	http          []string
	tcp           []string
	ip            []string
	knownBlocked  []string
	reports       []string
	failOnBlocked bool
	write         string
	perStep       bool
	seen          bool
	cache         bool
	strictCache   bool
	ask           bool
	debug         bool
	extraCA       []string
	network       string
	resolvers     []string
	upstream      string
	prefix        string
	events        string
	builder       string
	cage          string
	cacheMax      string
}

func (f *buildFlags) install(flags *pflag.FlagSet, mode policy.Mode) {
	flags.StringVar(&f.config, "config", "", "Policy `FILE` (default: buildcage.yaml in the build context, then in the working directory)")
	flags.StringArrayVar(&f.https, "allow-https", nil, "Allow TLS to `HOST[:PORT]` by server name; repeatable, or a list separated by spaces")
	flags.StringArrayVar(&f.http, "allow-http", nil, "Allow plain HTTP to `HOST[:PORT]`; repeatable")
	flags.StringArrayVar(&f.tcp, "allow-tcp", nil, "Allow any TCP protocol to `HOST:PORT`, by name; repeatable")
	flags.StringArrayVar(&f.ip, "allow-ip", nil, "Allow connections to `ADDRESS:PORT` or NETWORK:PORT; repeatable")
	flags.StringArrayVar(&f.knownBlocked, "known-blocked", nil, "Expect that `HOST[:PORT]` is refused: it is reported and does not make the exit code 3; repeatable")
	flags.StringArrayVar(&f.reports, "report", nil, "Write a report as `FORMAT[=FILE]`: text, json, markdown, sarif, junit, html or github (annotations); FILE - is stdout; repeatable; see docs/reports.md")
	flags.BoolVar(&f.failOnBlocked, "fail-on-blocked", true, "Exit with 3 when the build succeeded but something was refused")
	flags.StringArrayVar(&f.extraCA, "extra-ca", nil, "`FILE` of PEM certificates that the builder shall trust; repeatable")
	flags.BoolVarP(&f.debug, "debug", "D", false, "Show the cage's diagnostics and more of buildx")
	flags.StringVar(&f.prefix, "cage-prefix", "", "`PREFIX` of the cage's name, and of the volume with its cache: cages with another one share nothing with it")
	flags.StringVar(&f.network, "cage-network", "", "`NETWORK` of the engine to put the cage on")
	flags.StringVar(&f.cage, "cage", "", "Build in the running cage `NAME`; new: in one for this build alone (default: the cage that BUILDX_BUILDER names, else new)")
	flags.StringVar(&f.cacheMax, "cache-max", defaultCacheMax, "Keep at most `SIZE` of build cache")
	flags.StringVar(&f.builder, "builder", "", "Not available: the cage is the builder")
	flags.StringArrayVar(&f.resolvers, "cage-resolver", nil, "Resolver of the cage, as `ADDRESS:PORT`, instead of the engine's; repeatable")
	flags.StringVar(&f.upstream, "upstream-proxy", "", "Ask the proxy at `URL`, http://[USER:PASSWORD@]HOST:PORT, to connect to what is allowed (default: HTTPS_PROXY and NO_PROXY); none: nobody")
	flags.StringVar(&f.events, "events", "", "Keep the record itself, line by line as it comes, in `FILE`")
	for _, hidden := range []string{"cage-prefix", "cage-network", "cage-resolver", "events", "builder"} {
		flags.Lookup(hidden).Hidden = true
	}
	if mode == policy.Restrict {
		flags.BoolVar(&f.ask, "ask", false, "On a terminal, ask before refusing what no rule allows: allow once, allow and write the rule, or deny; see docs/ask.md")
		flags.BoolVar(&f.strictCache, "strict-cache", true, "Build steps again that the cache answers when it is not known that the policy allows what they did")
	}
	if mode == policy.Audit {
		flags.StringVar(&f.write, "write", "", "Add what the steps reached to the policy in `FILE`, keeping what it has; - is stdout")
		flags.BoolVar(&f.perStep, "per-step", false, "Make the rules part of an entry of steps: for each command, so that no step may do what another one did")
		flags.BoolVar(&f.seen, "seen", false, "With --write, say behind each new rule which step needed it, and when")
		flags.BoolVar(&f.cache, "cache", false, "Take unchanged steps from the cache even where nobody saw what they reach: those list nothing")
	}
}

func (a *app) buildCommand() (*cobra.Command, error) {
	return a.newBuild(policy.Restrict, &cobra.Command{
		Use:   "build [flags] PATH | URL | -",
		Short: "Build an image; steps reach only what the policy allows",
		Long: `Build an image as docker build does, in a cage: RUN steps reach only what
buildcage.yaml and the --allow flags name. What is refused fails fast, is
listed at the end, and makes the exit code 3 even when the build succeeds.`,
	})
}

func (a *app) auditCommand() (*cobra.Command, error) {
	return a.newBuild(policy.Audit, &cobra.Command{
		Use:   "audit [flags] PATH | URL | -",
		Short: "Build an image and list what its steps reach",
		Long: `Build an image as docker build does, let its steps reach what they want, and
list it. With --write the list becomes rules in a policy file: exactly the
hosts and ports that were seen, with --per-step for each step its own.

A step that the cache answers is listed with what it reached when it ran. Where
nobody saw all of that, it is built again, unless --cache, --no-cache=false or
--no-cache-filter says otherwise; --no-cache looks at every step afresh.`,
	})
}

// newBuild makes the command of a mode: our flags and all of buildx's.
func (a *app) newBuild(mode policy.Mode, cmd *cobra.Command) (*cobra.Command, error) {
	cli, err := command.NewDockerCli()
	if err != nil {
		return nil, fmt.Errorf("preparing the Docker client: %w", err)
	}
	b := &build{app: a, mode: mode, docker: cli}
	if b.buildx, err = buildx.New(cli); err != nil {
		return nil, err
	}
	ours := pflag.NewFlagSet(cmd.Name(), pflag.ContinueOnError)
	b.flags.install(ours, mode)
	b.lock.install(ours)
	cmd.Flags().AddFlagSet(ours)
	cmd.Flags().AddFlagSet(b.buildx.Flags())
	cmd.SetHelpFunc(help(ours, b.buildx.Flags(), func() int { return a.streams.width(a.streams.out) }))
	complete(cmd, "report", report.Formats()...)
	cmd.DisableFlagsInUseLine = true
	cmd.Args = oneContext
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		b.contextPath = args[0]
		return b.run(cmd.Context())
	}
	return cmd, nil
}

// run prepares everything that can be wrong with the command line before a
// cage starts, runs, and tells what came of it.
func (b *build) run(ctx context.Context) error {
	if b.flags.debug {
		debug.Enable()
	}
	for _, prepare := range []func() error{b.checkFlags, b.openInput, b.openOutputs, b.loadPolicy, b.checkAsk, b.places, b.openLock, b.checkDockerfile} {
		if err := prepare(); err != nil {
			return err
		}
	}
	engine, err := connect(ctx, b.docker, b.input.Stdin)
	if err != nil {
		return err
	}
	engine.Prefix = b.flags.prefix
	if err := b.chooseCage(ctx, engine); err != nil {
		return err
	}
	result := b.runCage(ctx, engine)
	if result, err = b.again(ctx, result, func(ctx context.Context) *runner.Result { return b.runCage(ctx, engine) }); err != nil {
		return err
	}
	return b.finish(result)
}

// runCage is one run in a cage of its own.
func (b *build) runCage(ctx context.Context, engine *docker.Engine) *runner.Result {
	return b.inCage(ctx, engine, func(ctx context.Context, at runner.Endpoint) error { return b.build(ctx, engine, at) })
}

// inCage runs do with a cage as the builder.
func (b *build) inCage(ctx context.Context, engine *docker.Engine, do func(context.Context, runner.Endpoint) error) *runner.Result {
	progress := newProgress(b.streams, b.buildx.Silent())
	defer progress.clear()
	heard := b.live()
	result := runner.Run(ctx, runner.Options{
		Engine:      engine,
		Stay:        b.stay,
		CacheMax:    b.cacheMax,
		Image:       b.image,
		Version:     b.versions().Version,
		Policy:      b.policy.spec,
		ExtraCA:     append(b.policy.extraCA, b.flags.extraCA...),
		Network:     b.flags.network,
		Resolvers:   b.resolvers,
		Proxy:       b.proxy,
		RecordFile:  b.flags.events,
		Debug:       b.flags.debug,
		Diagnostics: b.diagnostics(),
		Progress:    progress.step,
		Heard:       heard,
		Ask:         b.ask(),
		Hurry:       b.interrupt.hurry,
		Build: func(ctx context.Context, at runner.Endpoint) error {
			progress.clear()
			return do(ctx, at)
		},
	})
	b.answered(result)
	return result
}

func (b *build) diagnostics() io.Writer {
	if b.flags.debug {
		return b.streams.err
	}
	return nil
}

// checkFlags refuses what opens the cage and fills in docker build's defaults.
func (b *build) checkFlags() error {
	if b.flags.builder != "" {
		return usagef("leave --builder out; to build without a cage use docker buildx build", "--builder %q would build outside of the cage: the cage is the builder", b.flags.builder)
	}
	if strings.Trim(b.flags.prefix, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || strings.HasPrefix(b.flags.prefix, "-") {
		return usagef("use small letters, digits and hyphens", "--cage-prefix %q is no name", b.flags.prefix)
	}
	for _, text := range b.flags.resolvers {
		at, err := netip.ParseAddrPort(text)
		if err != nil {
			return usagef("write it as address:port, for example 192.0.2.53:53", "--cage-resolver %q is no address with a port", text)
		}
		b.resolvers = append(b.resolvers, at)
	}
	var err error
	if b.cacheMax, err = parseSize(b.flags.cacheMax); err != nil {
		return err
	}
	if err := b.buildx.Check(); err != nil {
		return err
	}
	if b.proxy, err = b.upstreamProxy(b.flags.upstream, os.Getenv); err != nil {
		return err
	}
	if err := b.buildx.LoadByDefault(); err != nil {
		return err
	}
	if b.mode == policy.Audit && b.contextPath == "-" && !b.flags.cache {
		return b.buildx.Refresh() // standard input can't be read again when the cache turns out to tell nothing
	}
	return nil
}

func (b *build) openInput() (err error) {
	b.input, err = localimage.Open(b.contextPath, b.buildx.Value("file"), b.streams.in)
	return err
}

// build runs buildx once the images that only the engine has are at hand.
func (b *build) build(ctx context.Context, engine *docker.Engine, at runner.Endpoint) error {
	lease, err := b.localImages(ctx, engine, at)
	if err != nil {
		return err
	}
	defer lease.Release()
	for _, c := range lease.Contexts {
		if err := b.buildx.AddContext(c.Name, c.Source); err != nil {
			return err
		}
		b.lent = append(b.lent, c.Name)
	}
	return b.buildx.Run(ctx, buildx.Endpoint{Addr: at.Addr, Dir: at.Dir}, b.contextPath)
}
