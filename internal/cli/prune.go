package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/buildcage/buildcage/internal/image"
)

func (a *app) pruneCommand() (*cobra.Command, error) {
	var all, dry bool
	cmd := &cobra.Command{
		Use: "prune", Short: "Remove what is not needed any more: dead cages, old images, build caches", Args: noArgs,
		Long: `Remove from this engine the cages that have ended, the images of other versions
of this program, and the caches of cages that are gone, with what is known of
their steps. With --all also the caches of temporary cages: the next builds run
everything anew. What runs is never touched.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.stays(cmd.Context())
			if err != nil {
				return err
			}
			return s.prune(cmd.Context(), all, dry)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "Remove the caches of temporary cages, too")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "Say what would be removed")
	return cmd, nil
}

// removal is something that prune removes.
type removal struct {
	what string
	do   func(context.Context) error
}

func (s *stays) prune(ctx context.Context, all, dry bool) error {
	list, err := s.removals(ctx, all)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		s.note("there is nothing to remove")
	}
	var errs []error
	for _, r := range list {
		verb := "would remove"
		if !dry {
			verb = "removed"
			if err := r.do(ctx); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		fmt.Fprintf(s.streams.out, "%s %s\n", verb, r.what)
	}
	return errors.Join(errs...)
}

func (s *stays) removals(ctx context.Context, all bool) ([]removal, error) {
	var list []removal
	cages, err := s.engine.Stays(ctx)
	if err != nil {
		return nil, err
	}
	keep := make(map[string]bool)
	for i := range cages {
		cage := &cages[i]
		if cage.Running() || cage.State == "restarting" {
			keep[s.engine.StayVolume(cage.Name)] = true
			continue
		}
		volume := s.engine.StayVolume(cage.Name)
		list = append(list, removal{"cage " + cage.Name + " and its cache", func(ctx context.Context) error {
			return errors.Join(s.down(ctx, cage, false), s.engine.RemoveVolume(ctx, volume))
		}})
		keep[volume] = true
	}
	volumes, err := s.engine.Volumes(ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		if !keep[v] && (all || !s.engine.IsSlotVolume(v)) {
			list = append(list, removal{"cache " + v, func(ctx context.Context) error { return s.engine.RemoveVolume(ctx, v) }})
		}
	}
	if img, err := s.embedded(); err == nil {
		olds, err := image.Old(ctx, s.engine.Client, img)
		if err != nil {
			return nil, err
		}
		if len(olds) > 0 {
			list = append(list, removal{fmt.Sprintf("%d old images", len(olds)), func(ctx context.Context) error {
				return image.Prune(ctx, s.engine.Client, img)
			}})
		}
	}
	return list, nil
}

func (s *stays) embedded() (image.Image, error) {
	if s.image != nil {
		return s.image()
	}
	return image.Embedded()
}
