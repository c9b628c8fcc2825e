// Command caged is the program inside the cage container.
package main

import (
	"os"

	"github.com/buildcage/buildcage/internal/cage"
)

func main() { os.Exit(cage.Main(os.Args)) }
