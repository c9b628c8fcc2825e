package main

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/buildcage/buildcage/bench/builder"
	"github.com/buildcage/buildcage/bench/figure"
)

// example is a real build of examples.
type example struct {
	name   string
	rounds int
	// without is what is left out of its Dockerfile: minutes of a compiler that
	// is the same on both sides.
	without string
}

func examples() []example {
	return []example{
		{"apt", 8, ""},
		{"npm", 9, ""},
		{"go", 4, "RUN go vet ./... && go test ./...\n"},
	}
}

// trusted is the mirror's bundle in a build context.
const trusted = ".trusted.pem"

// builds compares real builds. What they fetch comes from a mirror that has it
// already: the network is the same for both sides in every round.
func builds(ctx context.Context, e *builder.Engine) (rows []figure.Row, err error) {
	mirror, err := e.Mirror(ctx)
	if err != nil {
		return nil, err
	}
	e.Names = mirror.Addr
	defer func() {
		e.Names = netip.Addr{}
		err = errors.Join(err, mirror.Stop(context.WithoutCancel(ctx)))
	}()
	err = both(ctx, e, func(caged, plain *builder.Builder) error {
		for _, x := range examples() {
			if err := x.fill(ctx, e, plain, mirror); err != nil {
				return err
			}
			dir, err := x.context(e, mirror, x.name, func(text string) string { return text })
			if err != nil {
				return err
			}
			row, err := alternating(figure.Row{
				Name: "a real build: examples/" + x.name, Unit: "s", Other: uncaged,
				Budget: figure.Budget{Kind: figure.Ratio, Limit: 1.03},
			}, x.rounds, [2]side{
				{"cage", building(ctx, e, caged, dir, time.Second)},
				{"plain", building(ctx, e, plain, dir, time.Second)},
			})
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		return nil
	})
	return rows, err
}

// fill makes the mirror fetch what the build needs: all that is before its own
// sources come.
func (x example) fill(ctx context.Context, e *builder.Engine, b *builder.Builder, m *builder.Mirror) error {
	dir, err := x.context(e, m, x.name+".fill", func(text string) string {
		before, _, _ := strings.Cut(text, "COPY . .")
		return before
	})
	if err == nil {
		_, err = e.Build(ctx, b, dir)
	}
	return err
}

// context is a copy of the example that trusts the mirror.
func (x example) context(e *builder.Engine, m *builder.Mirror, name string, change func(string) string) (string, error) {
	dir := filepath.Join(e.Dir, "context", name)
	if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(filepath.Join("examples", x.name)))); err != nil {
		return "", err
	}
	file := filepath.Join(dir, "Dockerfile")
	old, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for line := range strings.Lines(change(x.shortened(string(old)))) {
		text.WriteString(line)
		if strings.HasPrefix(line, "FROM buildcage-demo:") {
			text.WriteString("COPY " + trusted + " /etc/ssl/certs/ca-certificates.crt\n")
		}
	}
	bundle, err := os.ReadFile(m.Bundle)
	if err != nil {
		return "", err
	}
	return dir, errors.Join(
		os.WriteFile(file, []byte(text.String()), 0o644),
		os.WriteFile(filepath.Join(dir, trusted), bundle, 0o644),
	)
}

func (x example) shortened(text string) string {
	if x.without == "" {
		return text
	}
	return strings.ReplaceAll(text, x.without, "")
}
