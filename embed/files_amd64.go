package embed

import "embed"

//go:embed cage/amd64
var files embed.FS
