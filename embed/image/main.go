// Command image builds the cage image that the buildcage binary embeds.
//
// The image is FROM scratch: caged, stock buildkitd and runc, three stock CNI
// plugins, stock git, Mozilla's root certificates and empty directories to
// mount on. Git comes from Debian's source (git.go), the other stock programs
// from the versions that thirdparty/go.mod pins; they are in a module of their
// own, so that their dependencies stay out of buildcage's.
//
// The result depends on its inputs only: the same sources, Go and C toolchain
// give the same bytes, wherever and whenever they are built. Run it with
//
//	go run ./embed/image
//
// in the root of the source tree. It does nothing when the image is current.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintf(os.Stderr, "image: error: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, log io.Writer) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.SetOutput(log)
	arch := flags.String("arch", runtime.GOARCH, "build for this GOARCH (needs CC and libseccomp for another one)")
	out := flags.String("out", "", "write image and manifest to this directory (default embed/cage/GOARCH)")
	force := flags.Bool("force", false, "build even if the image is current")
	if err := flags.Parse(args); err != nil {
		return err
	}
	root, err := filepath.Abs(".")
	if err != nil {
		return fmt.Errorf("finding source tree: %w", err)
	}
	b := &Builder{
		Root:  root,
		Arch:  *arch,
		Out:   *out,
		Work:  filepath.Join(root, ".cache", "cage", *arch),
		Force: *force,
		Log:   log,
	}
	if b.Out == "" {
		b.Out = filepath.Join(root, "embed", "cage", *arch)
	}
	start := time.Now()
	m, built, err := b.Build(ctx)
	if err != nil {
		return err
	}
	if !built {
		fmt.Fprintf(log, "image: %s is current\n", m.Tag)
		return nil
	}
	const mb = 1e6
	fmt.Fprintf(log, "image: %s built in %.0fs: %.1f MB, compressed %.1f MB\n", m.Tag,
		time.Since(start).Seconds(), float64(m.Tar.Size)/mb, float64(m.File.Size)/mb)
	return nil
}
