package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/client"

	"github.com/buildcage/buildcage/internal/contract"
)

// PruneGrace protects an image that another version of this program has just
// loaded and not yet started.
const PruneGrace = 10 * time.Minute

// Prune removes the cage images of other versions that no container uses:
// those of img's repository, and those that lost their tag.
func Prune(ctx context.Context, api client.ImageAPIClient, img Image) error {
	list, err := api.ImageList(ctx, client.ImageListOptions{
		Filters: make(client.Filters).Add("label", contract.Label+"=1"),
	})
	if err != nil {
		return fmt.Errorf("listing cage images: %w", err)
	}
	var problems []error
	for _, other := range list.Items {
		names, ours := namesOf(other, repository(img.Tag))
		if !ours || slices.Contains(img.IDs, other.ID) {
			continue
		}
		problems = append(problems, remove(ctx, api, other.ID, names))
	}
	return errors.Join(problems...)
}

func repository(tag string) string {
	repo, _, _ := strings.Cut(tag, ":")
	return repo
}

// namesOf returns what to remove: all tags, or the id of an untagged image. It
// is not ours when somebody else gave it a name.
func namesOf(other image.Summary, repo string) (names []string, ours bool) {
	for _, tag := range other.RepoTags {
		switch {
		case tag == "<none>:<none>":
		case repository(tag) == repo:
			names = append(names, tag)
		default:
			return nil, false
		}
	}
	if len(names) == 0 {
		names = []string{other.ID}
	}
	return names, true
}

// remove leaves alone what a container uses: without force the engine refuses,
// and that is no problem.
func remove(ctx context.Context, api client.ImageAPIClient, id string, names []string) error {
	got, err := api.ImageInspect(ctx, id)
	if err != nil || time.Since(got.Metadata.LastTagTime) < PruneGrace {
		return ignore(err)
	}
	for _, name := range names {
		if _, err := api.ImageRemove(ctx, name, client.ImageRemoveOptions{PruneChildren: true}); err != nil {
			return ignore(err)
		}
	}
	return nil
}

func ignore(err error) error {
	if err == nil || errdefs.IsConflict(err) || errdefs.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("removing an old cage image: %w", err)
}
