package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Installation is where the plugin goes.
type Installation struct {
	Dir     string // of Docker's configuration
	Program string // this program
	Copy    bool   // instead of a link
	Force   bool   // replace what is there
}

// Path of the plugin's file.
func (i *Installation) Path() string {
	name := Binary
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(i.Dir, "cli-plugins", name)
}

// Install links or copies the program. What stands there already is replaced
// when it is a link, or by force.
func (i *Installation) Install() error {
	path := i.Path()
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("looking at the plugin: %w", err)
	case info.Mode()&fs.ModeSymlink == 0 && !i.Force:
		return &Error{path + " is there already, and no link", "replace it with --force"}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making the directory of plugins: %w", err)
	}
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("installing the plugin: %w", err)
	}
	put := os.Symlink
	if i.Copy || runtime.GOOS == "windows" {
		put = copyFile
	}
	if err := put(i.Program, temp); err != nil {
		return fmt.Errorf("installing the plugin: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(fmt.Errorf("installing the plugin: %w", err), os.Remove(temp))
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// Uninstall removes the file. removed is false when there was none.
func (i *Installation) Uninstall() (removed bool, err error) {
	err = os.Remove(i.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("removing the plugin: %w", err)
	}
	return true, nil
}

const (
	aliases = "aliases"
	builder = "builder"
)

// ConfigPath is Docker's configuration file.
func (i *Installation) ConfigPath() string { return filepath.Join(i.Dir, "config.json") }

// Alias returns Docker's configuration with the alias set, or without it. All
// else stays; data may be empty. changed is false when there is nothing to do.
// An alias for something else is replaced by force only, and never removed.
func (i *Installation) Alias(data []byte, set bool) (out []byte, changed bool, err error) {
	config, err := object(data)
	if err != nil {
		return nil, false, &Error{fmt.Sprintf("%s: %v", i.ConfigPath(), err), "correct the file by hand; docker can't read it either"}
	}
	all, err := object(config[aliases])
	if err != nil {
		return nil, false, &Error{fmt.Sprintf("%s: %q: %v", i.ConfigPath(), aliases, err), "correct the file by hand"}
	}
	var current string
	if raw, ok := all[builder]; ok {
		if err := json.Unmarshal(raw, &current); err != nil {
			return nil, false, &Error{fmt.Sprintf("%s: %q: %v", i.ConfigPath(), builder, err), "correct the file by hand"}
		}
	}
	switch {
	case set == (current == Name), !set && current != Name:
		return data, false, nil
	case set && current != "" && !i.Force:
		return nil, false, &Error{fmt.Sprintf("%s: builder is an alias for %q already", i.ConfigPath(), current), "replace it with --force"}
	case set:
		all[builder] = json.RawMessage(`"` + Name + `"`)
	default:
		delete(all, builder)
	}
	if len(all) == 0 {
		delete(config, aliases)
	} else if config[aliases], err = json.Marshal(all); err != nil {
		return nil, false, fmt.Errorf("writing Docker's configuration: %w", err)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	if err := enc.Encode(config); err != nil {
		return nil, false, fmt.Errorf("writing Docker's configuration: %w", err)
	}
	return b.Bytes(), true, nil
}

// object keeps the values of a JSON object as they are written.
func object(data []byte) (map[string]json.RawMessage, error) {
	all := map[string]json.RawMessage{}
	if len(bytes.TrimSpace(data)) == 0 {
		return all, nil
	}
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, err
	}
	if all == nil {
		all = map[string]json.RawMessage{}
	}
	return all, nil
}
