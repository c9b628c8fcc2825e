package runtime

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// confine takes out of a further process of a running step (runc exec, which a
// frontend's containers use) what the step itself does not have. The process
// gets the capabilities that its own file names, so the step's do not bound it.
func confine(file string) error {
	if file == "" {
		return refusef("a further process without a file that describes it")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading the process: %w", err)
	}
	var process specs.Process
	if err := json.Unmarshal(b, &process); err != nil {
		return fmt.Errorf("reading the process: %w", err)
	}
	if err := capabilities(process.Capabilities); err != nil {
		return err
	}
	dropRaw(process.Capabilities)
	if b, err = json.Marshal(&process); err != nil {
		return fmt.Errorf("writing the process: %w", err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return fmt.Errorf("writing the process: %w", err)
	}
	return nil
}
