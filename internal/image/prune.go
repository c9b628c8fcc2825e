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
	others, err := Old(ctx, api, img)
	if err != nil {
		return err
	}
	var problems []error
	for _, names := range others {
		problems = append(problems, remove(ctx, api, names))
	}
	return errors.Join(problems...)
}

// Old are the images that Prune would remove where no container uses them: the
// names of each, or its id.
func Old(ctx context.Context, api client.ImageAPIClient, img Image) ([][]string, error) {
	list, err := api.ImageList(ctx, client.ImageListOptions{
		Filters: make(client.Filters).Add("label", contract.Label+"=1"),
	})
	if err != nil {
		return nil, fmt.Errorf("listing cage images: %w", err)
	}
	var others [][]string
	for _, other := range list.Items {
		names, ours := namesOf(other, repository(img.Tag))
		if !ours || slices.Contains(img.IDs, other.ID) {
			continue
		}
		got, err := api.ImageInspect(ctx, other.ID)
		switch {
		case errdefs.IsNotFound(err):
		case err != nil:
			return nil, fmt.Errorf("listing cage images: %w", err)
		case time.Since(got.Metadata.LastTagTime) >= PruneGrace:
			others = append(others, names)
		}
	}
	return others, nil
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
func remove(ctx context.Context, api client.ImageAPIClient, names []string) error {
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
