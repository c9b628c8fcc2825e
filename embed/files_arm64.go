package embed

import "embed"

//go:embed cage/arm64
var files embed.FS
