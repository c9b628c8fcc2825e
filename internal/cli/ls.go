package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/buildcage/buildcage/internal/docker"
	"github.com/buildcage/buildcage/internal/event"
)

// cageLine is one line of "ls", and one entry of "ls --json". It only grows.
type cageLine struct {
	Name    string     `json:"name"`
	Engine  string     `json:"engine"`
	State   string     `json:"state"` // running, or why not
	Mode    string     `json:"mode"`
	Policy  string     `json:"policy_digest"`
	Builds  int        `json:"builds"` // that go on
	Total   int        `json:"builds_total"`
	Idle    *time.Time `json:"idle_since,omitempty"`
	Since   *time.Time `json:"up_since,omitempty"`
	Created time.Time  `json:"created"`
	Problem string     `json:"problem,omitempty"`
	Version string     `json:"version,omitempty"` // of the program that started it
}

func (a *app) lsCommand() (*cobra.Command, error) {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "ls", Short: "List the cages that stay", Args: noArgs,
		Long: `List the cages that stay on this engine: their state, the policy they were
started with, how many builds go on, and since when nobody has built. A cage
that its engine did not start again is listed with the reason.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.stays(cmd.Context())
			if err != nil {
				return err
			}
			list, err := s.list(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(s.streams.out)
				enc.SetIndent("", "  ")
				return enc.Encode(list)
			}
			return s.table(list)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print as JSON")
	return cmd, nil
}

func (s *stays) list(ctx context.Context) ([]cageLine, error) {
	all, err := s.engine.Stays(ctx)
	if err != nil {
		return nil, err
	}
	list := []cageLine{}
	for i := range all {
		list = append(list, s.describe(ctx, &all[i]))
	}
	return list, nil
}

func (s *stays) describe(ctx context.Context, cage *docker.Staying) cageLine {
	l := cageLine{
		Name: cage.Name, Engine: s.engine.Client.DaemonHost(), State: cage.State, Mode: cage.Mode, Policy: cage.Digest,
		Created: cage.Created, Version: cage.Version,
	}
	if !cage.Running() {
		l.Problem = fmt.Sprintf("exit code %d; buildcage logs %s says why, buildcage up --name %s starts it again", cage.ExitCode, cage.Name, cage.Name)
		if cage.ExitCode == 0 {
			l.State, l.Problem = "idle", fmt.Sprintf("it ended because nobody built; buildcage up --name %s starts it again", cage.Name)
		}
		return l
	}
	i, err := s.inventory(ctx, cage)
	if err != nil {
		l.State, l.Problem = "starting", oneLine(err.Error())
		return l
	}
	l.Builds, l.Total, l.Since = i.Builds, i.Total, &i.Since
	if !i.Idle.IsZero() {
		l.Idle = &i.Idle
	}
	return l
}

func (s *stays) table(list []cageLine) error {
	w := tabwriter.NewWriter(s.streams.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSTATE\tMODE\tPOLICY\tBUILDS\tIDLE\tENGINE")
	for _, l := range list {
		idle := "-"
		if l.Idle != nil {
			idle = time.Since(*l.Idle).Round(time.Second).String()
		}
		fmt.Fprintln(w, strings.Join([]string{
			event.Clean(l.Name), event.Clean(l.State), event.Clean(cmp.Or(l.Mode, "-")), event.Clean(short(l.Policy)),
			strconv.Itoa(l.Builds), idle, event.Clean(l.Engine),
		}, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, l := range list {
		if l.Problem != "" {
			s.note(l.Name + ": " + l.Problem)
		}
	}
	return nil
}

// short is as much of a digest as people compare.
func short(digest string) string {
	_, hex, ok := strings.Cut(digest, ":")
	if !ok || len(hex) < 12 {
		return cmp.Or(digest, "-")
	}
	return hex[:12]
}
