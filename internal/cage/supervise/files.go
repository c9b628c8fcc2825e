package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/buildcage/buildcage/internal/cage/cgroup"
	"github.com/buildcage/buildcage/internal/cage/mount"
	"github.com/buildcage/buildcage/internal/cage/upstream"
	"github.com/buildcage/buildcage/internal/contract"
)

const (
	resolvConf = "/etc/resolv.conf"
	ownConf    = "/run/buildcage/resolv.conf"
)

// files makes the container's file system fit: kernel settings and control
// groups writable, the cage's own resolver configured, the CA bundle joined.
func (p *parts) files(context.Context, context.Context) (down, error) {
	if err := mount.Private(); err != nil {
		return nil, err
	}
	if err := mount.Writable(); err != nil {
		return nil, err
	}
	unified, err := cgroup.Unified(cgroup.Root)
	if err != nil {
		return nil, err
	}
	if unified {
		if err := cgroup.Delegate(cgroup.Root); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(filepath.Dir(ownConf), 0o700); err != nil {
		return nil, fmt.Errorf("making the cage's directory: %w", err)
	}
	if err := p.resolver(); err != nil {
		return nil, err
	}
	return nil, p.bundle()
}

// resolver remembers who resolved for the container and points everything in
// it at the cage's nameserver, with nothing else inherited.
func (p *parts) resolver() error {
	if p.resolvers = p.config.Resolvers; len(p.resolvers) == 0 {
		b, err := os.ReadFile(resolvConf)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("reading the container's resolvers: %w", err)
		}
		if p.resolvers, err = upstream.ParseConf(bytes.NewReader(b)); err != nil {
			return fmt.Errorf("reading the container's resolvers: %w", err)
		}
	}
	p.log.Info("upstream resolvers", "servers", p.resolvers)
	if err := os.WriteFile(ownConf, []byte("nameserver "+contract.Listen4.String()+"\n"), 0o644); err != nil {
		return fmt.Errorf("writing resolv.conf: %w", err)
	}
	return mount.Cover(ownConf, resolvConf)
}

// bundle joins the image's certificates and the ones that were handed in.
func (p *parts) bundle() error {
	b, err := os.ReadFile(contract.ImageCABundle)
	if errors.Is(err, fs.ErrNotExist) {
		p.log.Warn("the image has no CA bundle", "path", contract.ImageCABundle)
	} else if err != nil {
		return fmt.Errorf("reading the CA bundle: %w", err)
	}
	if len(b) > 0 && b[len(b)-1] != '\n' {
		b = append(b, '\n')
	}
	b = append(b, p.config.ExtraCA...)
	if err := os.WriteFile(contract.CABundle, b, 0o644); err != nil {
		return fmt.Errorf("writing the CA bundle: %w", err)
	}
	return nil
}
