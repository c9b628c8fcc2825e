package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/buildcage/buildcage/internal/buildx"
)

const referenceFile = "../../docs/cli.md"

// TestReference keeps docs/cli.md what the flags say.
func TestReference(t *testing.T) {
	for _, name := range []string{"DOCKER_DEFAULT_PLATFORM", "BUILDX_EXPERIMENTAL"} {
		t.Setenv(name, "") // they change buildx's flags
		os.Unsetenv(name)
	}
	root, err := (&app{streams: standard()}).root()
	if err != nil {
		t.Fatal(err)
	}
	got := reference(root)
	if *update {
		if err := os.WriteFile(referenceFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("docs/cli.md has drifted; go test ./internal/cli -run TestReference -update (-file +flags):\n%s", diff)
	}
}

func reference(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# Command line\n\n<!-- Made from the flags by internal/cli/reference_test.go; -update makes it again. -->\n")
	for _, cmd := range root.Commands() {
		if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n", cmd.CommandPath())
		if text := cmd.Long; text != "" {
			fmt.Fprintf(&b, "%s\n\n", text)
		} else {
			fmt.Fprintf(&b, "%s.\n\n", cmd.Short)
		}
		fmt.Fprintf(&b, "```\n%s\n```\n\n", cmd.UseLine())
		ours, theirs := split(cmd)
		table(&b, ours)
		if theirs != nil {
			b.WriteString("\nAnd every flag of `docker buildx build`:\n\n")
			table(&b, theirs)
		}
	}
	b.WriteString(fixed)
	return b.String()
}

// split separates our flags from buildx's.
func split(cmd *cobra.Command) (ours, theirs []*pflag.Flag) {
	known := map[string]bool{}
	if cmd.Name() == "build" || cmd.Name() == "audit" {
		bx, err := buildx.New(nil)
		if err == nil {
			bx.Flags().VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
		}
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		switch {
		case f.Hidden:
		case known[f.Name]:
			theirs = append(theirs, f)
		default:
			ours = append(ours, f)
		}
	})
	return ours, theirs
}

func table(b *strings.Builder, flags []*pflag.Flag) {
	b.WriteString("| flag | meaning |\n|---|---|\n")
	for _, f := range flags {
		value, usage := pflag.UnquoteUsage(f)
		name := "`--" + f.Name
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		if value != "" {
			name += " " + value
		}
		if f.DefValue != "" && f.DefValue != "[]" && f.DefValue != "false" && f.DefValue != "0" {
			usage += " (default `" + f.DefValue + "`)"
		}
		fmt.Fprintf(b, "| %s` | %s |\n", strings.ReplaceAll(name, "|", `\|`), strings.ReplaceAll(usage, "|", `\|`))
	}
}

// fixed is what no flag says.
const fixed = `
## What goes where

Progress, messages and the report as text go to stderr. Only a product goes to
stdout, and only one: an image id (` + "`-q`" + `), an exported archive (` + "`-o -`" + `), the
answer of ` + "`--call`" + `, ` + "`--report json`" + ` or any other report sent to ` + "`-`" + `, or the
allowlist (` + "`--write -`" + `). [reports.md](reports.md) has the formats. With
` + "`-q`" + ` or ` + "`--progress quiet|none|rawjson`" + ` the report as text appears only when
something was refused or the record is incomplete, unless ` + "`--report text`" + ` asks for it.

An error is two lines: ` + "`buildcage: error:`" + ` and ` + "`buildcage: hint:`" + `.

## What differs from docker buildx build

- The cage is the builder: ` + "`--builder`" + ` is refused, and so are ` + "`--network host`" + `,
  every ` + "`--allow`" + ` but ` + "`buildx.local.delete`" + `, and ` + "`RUN --network=host`" + `,
  ` + "`--security=insecure`" + ` and ` + "`--device=…,required`" + ` in a Dockerfile.
- The result is loaded into the engine unless ` + "`--load=false`, `--push`, `--output`, `--call`" + `
  or several platforms say otherwise.
- Base images that the engine has are taken from there, as with docker build.
  ` + "`--pull`" + ` prefers the registry and falls back to the engine. An image whose name
  is also the name of a stage (` + "`FROM node AS node`" + `) comes from the registry.
- ` + "`audit`" + ` implies ` + "`--no-cache`" + `. Contents of cache mounts (` + "`RUN --mount=type=cache`" + `)
  are kept, so what a package manager finds there is not asked for again.
- ` + "`audit --write FILE`" + ` uses FILE as the policy, unless ` + "`--config`" + ` names another one, and
  adds what FILE lacks. It writes after a whole, successful run only.
- No telemetry leaves the process: OpenTelemetry exporters that the environment
  configures are not used.

## Exit codes

| code | meaning |
|---|---|
| 0 | the build succeeded and nothing unexpected was refused |
| 1 | the build failed; buildx's own other codes pass through |
| 2 | usage or configuration |
| 3 | the build succeeded, but something was refused (` + "`--fail-on-blocked=false`" + `: 0) |
| 4 | drift: the lock does not fit (` + "`check`, `build --locked`" + `), two runs differ (` + "`diff`" + `) |
| 125 | the cage failed, or its record is incomplete |
| 130 | interrupted |
`
