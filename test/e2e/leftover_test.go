package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The cages of these tests have names and caches of their own: other runs of the
// program may use the engine at the same time. Names and the label of images end
// with the process, so that the next run knows what a killed one has left.
const (
	ownedBy    = "buildcage-e2e-"
	imageLabel = "com.buildcage.e2e"
)

// prefix begins the names of what this run of the tests makes.
func prefix() string { return ownedBy + fmt.Sprint(os.Getpid()) }

// owned adds to the arguments of a build what makes its cage and its image ours.
func owned(args []string) []string {
	if len(args) == 0 || os.Getenv("BUILDX_BUILDER") != "" {
		return args
	}
	own := []string{args[0]}
	named := func(flag string) bool {
		for _, a := range args {
			if a == flag || strings.HasPrefix(a, flag+"=") {
				return true
			}
		}
		return false
	}
	switch args[0] {
	case "build", "audit":
		own = append(own, "--label", imageLabel+"="+prefix())
	case "bake":
	default:
		return args
	}
	if !named("--cage") && !named("--cage-prefix") {
		own = append(own, "--cage-prefix", prefix())
	}
	return append(own, args[1:]...)
}

// apart gives the cages of a test a cache of their own: other tests may have
// filled the one that all share. It ends with the test.
func apart(t *testing.T) []string {
	t.Helper()
	name := fmt.Sprintf("%s-apart-%d", prefix(), time.Now().UnixNano())
	t.Cleanup(func() {
		if left := docker(t, "ps", "-aq", "--filter", "name=^/"+name); left != "" {
			t.Errorf("left behind: containers %s", left)
		}
		for volume := range strings.FieldsSeq(docker(t, "volume", "ls", "-q", "--filter", "name="+name)) {
			docker(t, "volume", "rm", volume)
		}
	})
	return []string{"--cage-prefix", name}
}

// cages returns the ids of this run's temporary cages.
func cages(t *testing.T, args ...string) []string {
	t.Helper()
	return strings.Fields(docker(t, append([]string{"ps", "-q", "--filter", "name=^/" + prefix() + "-[0-9]+$"}, args...)...))
}

// leftovers are the containers, private directories and builders of the
// program that exist now.
func leftovers(t *testing.T) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	for _, id := range cages(t, "--all") {
		found["container "+id] = true
	}
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), "buildcage-*"))
	for _, d := range dirs {
		found["directory "+d] = true
	}
	home, _ := os.UserHomeDir()
	builders, _ := filepath.Glob(filepath.Join(home, ".docker", "buildx", "instances", "*"))
	for _, b := range builders {
		found["builder "+b] = true
	}
	return found
}

// sweep removes from the engine what this run has made there, and what runs of
// the tests have left that are dead: caches, and images that builds have loaded.
func sweep() error {
	var errs []error
	for _, kind := range []struct{ list, remove []string }{
		{[]string{"ps", "-a", "--filter", "name=" + ownedBy, "--format", "{{.Names}} {{.ID}}"}, []string{"rm", "-f"}},
		{[]string{"volume", "ls", "--filter", "name=" + ownedBy, "--format", "{{.Name}} {{.Name}}"}, []string{"volume", "rm"}},
		{[]string{"image", "ls", "--no-trunc", "--filter", "label=" + imageLabel, "--format", "{{.ID}}"}, []string{"image", "rm", "-f"}},
	} {
		out, err := exec.Command("docker", kind.list...).Output()
		errs = append(errs, err)
		for line := range strings.Lines(string(out)) {
			owner, id, two := strings.Cut(strings.TrimSpace(line), " ")
			if !two { // an image: its label says whose it is
				owner, id = ownerOf(owner), owner
			}
			if alive(owner) {
				continue
			}
			if out, err := exec.Command("docker", append(kind.remove, id)...).CombinedOutput(); err != nil {
				errs = append(errs, fmt.Errorf("docker %s %s: %w: %s", strings.Join(kind.remove, " "), id, err, out))
			}
		}
	}
	return errors.Join(errs...)
}

// ownerOf is what an image bears, "" when it is gone: it may have had two names.
func ownerOf(image string) string {
	label, err := exec.Command("docker", "image", "inspect", "--format", `{{index .Config.Labels "`+imageLabel+`"}}`, image).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(label))
}

// alive reports whether another process that still runs has made what bears the name.
func alive(name string) bool {
	pid, _, _ := strings.Cut(strings.TrimPrefix(name, ownedBy), "-")
	if !strings.HasPrefix(name, ownedBy) || pid == "" || strings.Trim(pid, "0123456789") != "" {
		return true // not ours to judge
	}
	_, err := os.Stat(filepath.Join("/proc", pid))
	return err == nil && pid != fmt.Sprint(os.Getpid())
}
