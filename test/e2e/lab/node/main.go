// Command node is every machine of the lab in one static program: a server
// that accepts everything and counts it (as origin or as sink), the scripted
// resolver, and the builder without a cage. It answers the harness on an
// abstract unix socket of its own network namespace.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "node: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: node origin|sink|names|uncaged")
	}
	switch args[0] {
	case "origin", "sink":
		return serveEverything(ctx, args[0])
	case "names":
		return serveNames(ctx)
	case "uncaged":
		return uncaged(args[1:])
	}
	return fmt.Errorf("there is no node %q", args[0])
}
