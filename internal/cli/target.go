package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// target is a file that is written after the build and checked before it. A
// regular file is replaced as a whole, by renaming, so that nobody reads half
// of it and a run that fails leaves the old one.
type target struct {
	path string
	temp *os.File // beside path; nil for what is no regular file
}

func (t *target) String() string { return t.path }

// openTarget finds out now whether path can be written.
func openTarget(path, flag string) (*target, error) {
	refuse := func(err error) error {
		return &usageError{msg: fmt.Sprintf("%s: can't write %q: %v", flag, path, bare(err)), hint: "name a file that can be written; it is checked before the build", err: err}
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, refuse(err)
	case info.IsDir():
		return nil, refuse(errors.New("it is a directory"))
	default: // only the permission: a device or pipe is not opened twice
		if !info.Mode().IsRegular() {
			return &target{path: path}, nil
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, refuse(err)
		}
		_ = f.Close()
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, refuse(err)
		}
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".")
	if err != nil {
		return nil, refuse(err)
	}
	mode := fs.FileMode(0o644)
	if info != nil {
		mode = info.Mode().Perm()
	}
	if err := temp.Chmod(mode); err != nil && info != nil {
		_ = temp.Close()
		_ = os.Remove(temp.Name())
		return nil, refuse(err)
	}
	return &target{path: path, temp: temp}, nil
}

// bare drops the operation and the path, which messages have already.
func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// save writes the content. It is called at most once.
func (t *target) save(write func(io.Writer) error) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("writing %s: %w", t.path, err), t.discard())
		}
	}()
	f := t.temp
	if f == nil {
		if f, err = os.OpenFile(t.path, os.O_WRONLY, 0); err != nil {
			return err
		}
	}
	if err := write(f); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if t.temp == nil {
		return nil
	}
	if err := os.Rename(f.Name(), t.path); err != nil {
		return err
	}
	t.temp = nil
	return nil
}

// discard gives up on what was not saved.
func (t *target) discard() error {
	if t == nil || t.temp == nil {
		return nil
	}
	_ = t.temp.Close()
	err := os.Remove(t.temp.Name())
	t.temp = nil
	return err
}
