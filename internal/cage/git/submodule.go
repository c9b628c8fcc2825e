package git

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// submodule is git-submodule, which git has as a shell script around a program
// that does the work. Only what BuildKit calls is there: update.
func (p Program) submodule(ctx context.Context, args []string) error {
	if len(args) == 0 || args[0] != "update" {
		return errors.New("git submodule can only update in the cage")
	}
	for _, arg := range args[1:] {
		switch name, _, _ := strings.Cut(arg, "="); name {
		case "--init", "--recursive", "--quiet", "--depth", "--force", "--jobs":
		default:
			return fmt.Errorf("git submodule update does not know %q in the cage", arg)
		}
	}
	// The script says so, too: addresses in .gitmodules are not the person's,
	// and protocol.file.allow=user refuses those that lead to files.
	env := []string{"GIT_PROTOCOL_FROM_USER=0"}
	return p.git(ctx, env, append(append([]string{"submodule--helper"}, args...), "--")...)
}
