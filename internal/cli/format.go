package cli

import (
	"bytes"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/buildcage/buildcage/internal/config"
)

func (a *app) fmtCommand() (*cobra.Command, error) {
	var check bool
	cmd := &cobra.Command{
		Use:   "fmt [flags] [FILE…]",
		Short: "Format policy files",
		Long: `Format policy files (by default buildcage.yaml in the working directory; - is
standard input to standard output): keys in the order of the documentation,
one rule a line, quotes only where they are needed. Rules and entries keep
their order, comments are kept, and the policy means the same as before.
Prints the names of the files that it changes. With --check nothing is
written, and the exit code is 4 when a file is not formatted.`,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{config.Name}
			}
			return a.format(cmd.OutOrStdout(), args, check)
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "Write nothing; exit with 4 when a file is not formatted")
	return cmd, nil
}

// format formats every file that can be, and fails if one can't.
func (a *app) format(w io.Writer, files []string, check bool) error {
	p := &printer{w: w}
	changed, code := false, 0
	for _, name := range files {
		differs, err := a.formatOne(w, name, check)
		if err != nil {
			a.tell(err)
			code = max(code, exitCode(err))
			continue
		}
		if differs && name != stdoutName {
			p.line("%s", name)
		}
		changed = changed || differs
	}
	switch {
	case code != 0:
		return exitError(code)
	case p.err != nil:
		return p.err
	case check && changed:
		return exitError(exitDrift)
	}
	return nil
}

func (a *app) formatOne(w io.Writer, name string, check bool) (differs bool, err error) {
	var data []byte
	shown := name
	if name == stdoutName {
		shown = "stdin"
		data, err = io.ReadAll(a.streams.in)
	} else {
		data, err = os.ReadFile(name)
	}
	if err != nil {
		return false, unreadable(err)
	}
	out, err := config.Format(shown, data)
	if err != nil {
		return false, err
	}
	differs = !bytes.Equal(data, out)
	write := func(w io.Writer) error { _, err := w.Write(out); return err }
	switch {
	case check:
	case name == stdoutName:
		return differs, write(w)
	case differs:
		target, err := openTarget(name, "fmt")
		if err != nil {
			return differs, err
		}
		return differs, target.save(write)
	}
	return differs, nil
}
