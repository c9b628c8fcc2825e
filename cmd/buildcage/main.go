// Command buildcage is docker build in a cage.
package main

import (
	"os"

	"github.com/buildcage/buildcage/internal/cli"
)

// version is set by the linker.
var version string

func main() { os.Exit(cli.Main(version)) }
