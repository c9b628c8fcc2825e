package runner

import (
	"github.com/moby/moby/api/types/container"

	"github.com/buildcage/buildcage/internal/contract"
)

// containerOf is a cage that was created and never started.
func containerOf(image, run string) *container.Config {
	return &container.Config{Image: image, Labels: map[string]string{contract.Label: "1", contract.LabelRun: run}}
}
