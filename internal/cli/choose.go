package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/buildcage/buildcage/internal/docker"
)

// newCage asks for a cage of its own.
const newCage = "new"

// chooseCage finds the running cage to build in. One that is merely up is not
// taken: a build is where somebody said that it should be, by the flag, or by
// the variable that plain docker buildx obeys, too.
func (b *build) chooseCage(ctx context.Context, engine *docker.Engine) error {
	name := b.flags.cage
	asked := name != ""
	if !asked {
		name = os.Getenv(builderEnv)
	}
	if name == "" || name == newCage || name == "none" {
		return nil
	}
	if err := checkStayName(name); err != nil {
		if asked {
			return err
		}
		return nil // a builder of another kind
	}
	found, err := engine.FindStay(ctx, name)
	switch {
	case err != nil:
		return err
	case found == nil && !asked:
		return nil
	case found == nil:
		return usagef("buildcage ls lists them, buildcage up --name "+name+" starts it", "there is no cage %q on this engine", name)
	case !found.Running():
		return usagef("buildcage logs "+name+" says why, buildcage up --name "+name+" starts it again", "cage %q does not run: it is %s", name, found.State)
	}
	if err := b.checkShared(name); err != nil {
		return err
	}
	b.stay = found
	return nil
}

// checkShared refuses what a running cage has already, and can't have twice.
func (b *build) checkShared(name string) error {
	given := map[string]bool{
		"--extra-ca": len(b.flags.extraCA) > 0, "--cage-network": b.flags.network != "", "--cage-resolver": len(b.resolvers) > 0,
		"--upstream-proxy": b.flags.upstream != "",
	}
	for _, flag := range []string{"--extra-ca", "--cage-network", "--cage-resolver", "--upstream-proxy"} {
		if given[flag] {
			return usagef("give it to buildcage up, or build with --cage new", "%s can't be changed in the running cage %q", flag, name)
		}
	}
	if len(b.policy.extraCA) > 0 {
		b.note(fmt.Sprintf("extra_ca of %s is not used: cage %s trusts what it was started with", b.policy.path, name))
	}
	return nil
}
