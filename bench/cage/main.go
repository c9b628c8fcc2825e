// Command cage is the cage's own program without BuildKit, for benchmarks. With
// PROFILE it writes a profile of its processor time there when it ends.
package main

import (
	"fmt"
	"os"
	"runtime/pprof"

	"github.com/buildcage/buildcage/internal/cage/supervise"
	"github.com/buildcage/buildcage/internal/contract"
)

func main() {
	code, err := run(os.Getenv("PROFILE"))
	if err != nil {
		fmt.Fprintf(os.Stderr, "cage: error: %v\n", err)
		code = contract.ExitFailed
	}
	os.Exit(code)
}

func run(profile string) (int, error) {
	if profile == "" {
		return supervise.Bare(), nil
	}
	f, err := os.Create(profile)
	if err != nil {
		return 0, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return 0, err
	}
	code := supervise.Bare()
	pprof.StopCPUProfile()
	return code, f.Close()
}
