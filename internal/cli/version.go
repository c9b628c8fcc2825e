package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/buildcage/buildcage/embed"
)

// versions is what "version --json" prints. It only grows.
type versions struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Cage     string `json:"cage,omitempty"` // tag of the embedded image
	BuildKit string `json:"buildkit,omitempty"`
	Buildx   string `json:"buildx,omitempty"`
}

func (a *app) versionCommand() (*cobra.Command, error) {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the version of the program and of the cage that it carries",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := a.versions()
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(v)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "buildcage %s (%s)\ncage      %s\n", v.Version, v.Platform, orNone(v.Cage))
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print as JSON")
	return cmd, nil
}

func orNone(s string) string {
	if s == "" {
		return "none in this binary"
	}
	return s
}

func (a *app) versions() versions {
	v := versions{Version: a.version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if cage, err := embed.Cage(); err == nil {
		v.Cage = cage.Tag
	}
	info, ok := debug.ReadBuildInfo()
	if ok {
		if v.Version == "" && info.Main.Version != "(devel)" {
			v.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Commit = s.Value
			}
		}
		for _, d := range info.Deps {
			switch d.Path {
			case "github.com/docker/buildx":
				v.Buildx = d.Version
			case "github.com/moby/buildkit":
				v.BuildKit = d.Version
			}
		}
	}
	if v.Version == "" {
		v.Version = "dev"
	}
	return v
}
