//go:build !amd64 && !arm64

package embed

import "embed"

// No cage image is built for this architecture.
var files embed.FS
