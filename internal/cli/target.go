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
	path    string // as given
	file    string // without symbolic links
	replace bool   // false: a device or pipe, written in place
	append  bool   // to what others wrote there
	mode    fs.FileMode
}

func (t *target) String() string { return t.path }

// openTarget finds out now whether path can be written. Nothing stays open and
// nothing is left: whatever ends this program before the time to write, there
// is nothing to clean up.
func openTarget(path, flag string) (*target, error) {
	t := &target{path: path, file: path, replace: true, mode: 0o644}
	if err := t.check(); err != nil {
		return nil, &usageError{
			msg:  fmt.Sprintf("%s: can't write %q: %v", flag, path, bare(err)),
			hint: "name a file that can be written; it is checked before the build",
			err:  err,
		}
	}
	return t, nil
}

// openAppend is openTarget for a file that others write to as well.
func openAppend(path, flag string) (*target, error) {
	t, err := openTarget(path, flag)
	if err == nil {
		t.append, t.replace = true, false
	}
	return t, err
}

// room is how many bytes are left in a file of limit bytes.
func (t *target) room(limit int64) int {
	info, err := os.Stat(t.file)
	if err != nil {
		return int(limit)
	}
	return int(max(0, limit-info.Size()))
}

func (t *target) check() error {
	info, err := os.Stat(t.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case info.IsDir():
		return errors.New("it is a directory")
	case !info.Mode().IsRegular():
		t.replace = false
		return nil
	default:
		f, err := os.OpenFile(t.path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_ = f.Close()
		t.mode = info.Mode().Perm()
		if t.file, err = filepath.EvalSymlinks(t.path); err != nil {
			return err
		}
	}
	temp, err := t.temp()
	if err != nil {
		return err
	}
	return errors.Join(temp.Close(), os.Remove(temp.Name()))
}

func (t *target) temp() (*os.File, error) {
	return os.CreateTemp(filepath.Dir(t.file), "."+filepath.Base(t.file)+".")
}

// bare drops the operation and the path, which messages have already.
func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// save writes the content.
func (t *target) save(write func(io.Writer) error) error {
	do := t.overwrite
	if t.replace {
		do = t.swap
	}
	if err := do(write); err != nil {
		return fmt.Errorf("writing %s: %w", t.path, err)
	}
	return nil
}

func (t *target) overwrite(write func(io.Writer) error) error {
	flag := os.O_WRONLY
	if t.append {
		flag |= os.O_APPEND | os.O_CREATE
	}
	f, err := os.OpenFile(t.file, flag, t.mode)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

func (t *target) swap(write func(io.Writer) error) (err error) {
	f, err := t.temp()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if err := errors.Join(write(f), f.Chmod(t.mode), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), t.file)
}
