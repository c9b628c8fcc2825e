package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/buildcage/buildcage/bench/builder"
	"github.com/buildcage/buildcage/bench/figure"
)

const (
	uncaged = "uncaged, same BuildKit"
	program = "bin/buildcage"
)

func engineRows() []measure[*builder.Engine] {
	return []measure[*builder.Engine]{
		{"start", starts},
		{"load", loads},
		{"warm", warm},
		{"steps", steps},
		{"builds", builds},
		{"size", sizes},
	}
}

// inEngine makes the rows that need one.
func inEngine(ctx context.Context, dir string) (rows []figure.Row, err error) {
	if !anyWanted(engineRows()) {
		return nil, nil
	}
	e, err := builder.Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err = errors.Join(err, e.Close(context.WithoutCancel(ctx))); err == nil {
			fmt.Fprintln(os.Stderr, "bench: nothing is left in the engine")
		}
	}()
	return take(ctx, engineRows(), e)
}

// side is one of two ways, ours first.
type side struct {
	name string
	do   func() (float64, error)
}

// alternating runs both ways n times in alternation and adds what they gave to
// the row.
func alternating(row figure.Row, n int, sides [2]side) (figure.Row, error) {
	into := [2]*figure.Samples{&row.Ours, &row.Theirs}
	for round := range n {
		for i := range sides {
			at := (round + i) % 2
			v, err := sides[at].do()
			if err != nil {
				return row, fmt.Errorf("%s: %w", sides[at].name, err)
			}
			*into[at] = append(*into[at], v)
		}
	}
	return row, nil
}

func starts(ctx context.Context, e *builder.Engine) ([]figure.Row, error) {
	start := func(how func(context.Context) (*builder.Builder, error)) func() (float64, error) {
		return func() (float64, error) {
			b, err := how(ctx)
			if err != nil {
				return 0, err
			}
			return b.Start.Seconds(), b.Stop(ctx)
		}
	}
	row, err := alternating(figure.Row{
		Name: "cold start: container created to BuildKit ready", Unit: "s", Other: "plain BuildKit container",
		Budget: figure.Budget{Kind: figure.Ratio, Limit: 1.5},
	}, 1+5, [2]side{{"cage", start(e.Caged)}, {"plain", start(e.Plain)}})
	row.Ours, row.Theirs = row.Ours[1:], row.Theirs[1:] // the first ones made their databases
	return []figure.Row{row}, err
}

func loads(ctx context.Context, e *builder.Engine) ([]figure.Row, error) {
	load := func(how func(context.Context, *builder.Archive) (time.Duration, error)) func() (float64, error) {
		return func() (float64, error) {
			a, err := e.Fresh(ctx)
			if err != nil {
				return 0, err
			}
			took, err := how(ctx, a)
			return took.Seconds(), err
		}
	}
	row, err := alternating(figure.Row{
		Name: "first start ever: load the image", Unit: "s", Other: "docker load of the same tar",
		Budget: figure.Budget{Kind: figure.Ratio, Limit: 1.2},
	}, 2, [2]side{{"program", load(e.Load)}, {"docker load", load(e.LoadTar)}})
	return []figure.Row{row}, err
}

// both starts both builders, lets them take in the base images, calls f, and
// stops them.
func both(ctx context.Context, e *builder.Engine, f func(caged, plain *builder.Builder) error) error {
	caged, err := e.Caged(ctx)
	if err != nil {
		return err
	}
	plain, err := e.Plain(ctx)
	if err != nil {
		return errors.Join(err, caged.Stop(ctx))
	}
	last := context.WithoutCancel(ctx)
	for _, b := range []*builder.Builder{caged, plain} {
		for _, image := range []string{"base", "node", "go"} {
			dir, made := trivial(e, image, 1)
			_, built := e.Build(ctx, b, dir)
			err = errors.Join(err, made, built)
		}
	}
	if err == nil {
		err = f(caged, plain)
	}
	return errors.Join(err, caged.Stop(last), plain.Stop(last))
}

// trivial makes the context of a build with n steps that do nothing.
func trivial(e *builder.Engine, image string, n int) (dir string, err error) {
	dir = filepath.Join(e.Dir, "context", fmt.Sprintf("%s-%d", image, n))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	text := "FROM buildcage-demo:" + image + "\n"
	for i := range n {
		text += fmt.Sprintf("RUN : %d\n", i)
	}
	return dir, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644)
}

// building times one build, in units of which there are n in it.
func building(ctx context.Context, e *builder.Engine, b *builder.Builder, dir string, unit time.Duration) func() (float64, error) {
	return func() (float64, error) {
		took, err := e.Build(ctx, b, dir)
		return float64(took) / float64(unit), err
	}
}

// manySteps is how many trivial steps a build has.
const manySteps = 50

func steps(ctx context.Context, e *builder.Engine) ([]figure.Row, error) {
	dir, err := trivial(e, "base", manySteps)
	if err != nil {
		return nil, err
	}
	row := figure.Row{
		Name: fmt.Sprintf("one RUN step of %d trivial ones", manySteps), Unit: "ms", Other: uncaged,
		Budget: figure.Budget{Kind: figure.Added, Limit: 25, Unit: "ms"},
	}
	err = both(ctx, e, func(caged, plain *builder.Builder) (err error) {
		row, err = alternating(row, 3, [2]side{
			{"cage", building(ctx, e, caged, dir, manySteps*time.Millisecond)},
			{"plain", building(ctx, e, plain, dir, manySteps*time.Millisecond)},
		})
		return err
	})
	return []figure.Row{row}, err
}

func absolute(name, unit string, value, limit float64) figure.Row {
	return figure.Row{
		Name: name, Unit: unit, Ours: figure.Samples{value},
		Budget: figure.Budget{Kind: figure.Absolute, Limit: limit, Unit: unit},
	}
}

func sizes(ctx context.Context, e *builder.Engine) ([]figure.Row, error) {
	info, err := os.Stat(program)
	if err != nil {
		return nil, err
	}
	image, err := e.Size(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := trivial(e, "base", 1)
	if err != nil {
		return nil, err
	}
	memory, err := peak(ctx, program, "build", "--cage-prefix", builder.Prefix, "--no-cache", "--output", "type=cacheonly", dir)
	if err != nil {
		return nil, err
	}
	return []figure.Row{
		absolute("the program, with the cage in it", "MB", float64(info.Size())/1e6, 110),
		absolute("the cage image, unpacked", "MB", float64(image)/1e6, 120),
		absolute("memory of the program in a build, at most", "MB", float64(memory)/1e6, 120),
	}, nil
}
