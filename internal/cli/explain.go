package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/buildcage/buildcage/internal/config"
	"github.com/buildcage/buildcage/internal/explain"
	"github.com/buildcage/buildcage/internal/policy"
)

// exitRefused is what explain says of a destination that is not allowed.
const exitRefused = 3

// explaining is one use of "explain".
type explaining struct {
	*app
	config   string
	step     string
	stage    string
	protocol string
	line     int
	secrets  bool
	builder  bool
	json     bool
}

func (a *app) explainCommand() (*cobra.Command, error) {
	x := &explaining{app: a}
	cmd := &cobra.Command{
		Use:   "explain [flags] HOST:PORT",
		Short: "Tell which rule decides about a destination, or which line would allow it",
		Long: `Tell which rule of buildcage.yaml decides about a destination, with its file,
line and column, or which line would allow it. Nothing is resolved and nobody
is asked. Without --step the answer is the top level's, and entries of steps:
that answer otherwise are listed. Exits with 0 when the destination is
allowed and with 3 when it is refused.`,
		Example: `  buildcage explain pypi.org
  buildcage explain --protocol tcp github.com:22 --step "git clone*"
  buildcage explain 192.0.2.10:443 --json`,
		Args:                  oneDestination,
		DisableFlagsInUseLine: true,
		RunE:                  func(cmd *cobra.Command, args []string) error { return x.run(cmd, args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&x.config, "config", "", "Policy `FILE` (default: buildcage.yaml in the working directory)")
	f.StringVar(&x.step, "step", "", "Ask for the step with this `COMMAND`, as the Dockerfile has it behind RUN")
	f.StringVar(&x.stage, "stage", "", "The `STAGE` of the step")
	f.IntVar(&x.line, "line", 0, "The Dockerfile `LINE` where the step begins")
	f.BoolVar(&x.secrets, "secrets", false, "The step mounts a secret or ssh")
	f.BoolVar(&x.builder, "builder", false, "Ask for the builder's own traffic: FROM, ADD, cache, push")
	f.StringVar(&x.protocol, "protocol", "", "What is spoken: `https|http|tcp|ip` (default: http on port 80, ip for an address, else https)")
	f.BoolVar(&x.json, "json", false, "Print as JSON")
	complete(cmd, "protocol", explain.HTTPS, explain.HTTP, explain.TCP, explain.IP)
	return cmd, nil
}

func oneDestination(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("for example: "+cmd.CommandPath()+" pypi.org:443", "one destination is expected, got %d arguments", len(args))
	}
	return nil
}

func (x *explaining) run(cmd *cobra.Command, destination string) error {
	target, err := explain.Parse(destination, x.protocol)
	if err != nil {
		return &usageError{msg: err.Error(), hint: hintOf(err), err: err}
	}
	q := explain.Question{Target: target}
	switch {
	case x.builder && (x.step != "" || x.stage != "" || x.line != 0 || x.secrets):
		return usagef("leave one of them out", "--builder is not a step")
	case x.builder:
		q.Step = &policy.Step{Builder: true}
	case x.step != "":
		q.Step = &policy.Step{Command: x.step, Stage: x.stage, Line: x.line, Secrets: x.secrets, Undisclosed: !cmd.Flags().Changed("secrets")}
	case x.stage != "" || x.line != 0 || x.secrets:
		return usagef("add --step COMMAND", "--stage, --line and --secrets say more about a --step")
	}
	cfg, err := configured(x.config, "")
	if err != nil {
		return err
	}
	answer, err := explain.Of(cfg.Spec, q)
	if err != nil {
		return err
	}
	if cfg.Path == "" {
		answer.Notes = append(answer.Notes, "there is no "+config.Name+" here: without one, nothing is allowed")
	}
	if x.json {
		err = writeJSON(cmd.OutOrStdout(), answer)
	} else {
		err = writeAnswer(cmd.OutOrStdout(), answer, target.Assumed)
	}
	if err == nil && !answer.Allowed {
		return exitError(exitRefused)
	}
	return err
}

// configured reads a policy file: the named one, else the one that is found in
// a context or the working directory, else what holds without a file.
func configured(path, context string) (*config.Config, error) {
	path, err := policyPath(path, context)
	if err != nil || path == "" {
		return config.Default(), err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, unreadable(err)
	}
	return config.Load(path, data)
}

func unreadable(err error) error {
	return &usageError{msg: "reading the policy: " + err.Error(), hint: "name a readable file", err: err}
}

func policyPath(path, context string) (string, error) {
	if path != "" {
		return path, nil
	}
	if context == "" {
		context = "."
	}
	return config.Find(context, ".")
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func writeAnswer(w io.Writer, a *explain.Answer, assumed bool) error {
	p := &printer{w: w}
	verdict, protocol := "refused", a.Protocol
	if a.Allowed {
		verdict = "allowed"
	}
	if assumed {
		protocol += ", assumed; --protocol says otherwise"
	}
	p.line("%s: %s (%s)", verdict, a.Target, protocol)
	p.field("why", a.Why)
	p.field("rule", placed(a.Rule, a.Pos))
	if a.Rule == "" {
		p.field("at", a.Pos)
	}
	if a.Add != nil {
		p.field("add", a.Add.Line)
		p.field("to", sectionText(a))
		p.field("or once", a.Add.Flag)
	}
	for _, e := range a.Steps {
		said := "refuses it"
		if e.Allowed {
			said = "allows it"
		}
		if e.Rule != "" {
			said += " by " + placed(e.Rule, e.RulePos)
		}
		p.field("but", fmt.Sprintf("steps[%d] (%s) %s", e.Index, e.Selector, said))
	}
	for _, n := range a.Notes {
		p.field("note", n)
	}
	return p.err
}

func sectionText(a *explain.Answer) string {
	if a.Pos != "" {
		return a.Add.Section + " at " + a.Pos
	}
	return "the " + a.Add.Section
}

func placed(rule, pos string) string {
	if rule == "" || pos == "" {
		return rule
	}
	return rule + " (" + pos + ")"
}
