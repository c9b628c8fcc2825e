// Command ping exits 0 when an engine answers. The setup script asks it where
// there is no docker command to ask.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/moby/moby/client"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "ping: error: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	engine, err := client.New(client.FromEnv)
	if err != nil {
		return fmt.Errorf("configuring engine client: %w", err)
	}
	defer engine.Close()
	if _, err := engine.Ping(ctx, client.PingOptions{}); err != nil {
		return fmt.Errorf("asking engine: %w", err)
	}
	return nil
}
