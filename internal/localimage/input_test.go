package localimage

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("app/Dockerfile", "FROM app\n")
	write("lower/dockerfile", "FROM lower\n")
	other := write("other.Dockerfile", "FROM other\n")
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	archive := string(archiveOf(t, entry{name: "Dockerfile", body: "FROM tar\n"}))
	in := func(name string) string { return filepath.Join(dir, name) }

	for _, tc := range []struct {
		name, context, file, stdin string
		want, err, rest            string
	}{
		{name: "default", context: in("app"), want: "FROM app\n"},
		{name: "lower case", context: in("lower"), want: "FROM lower\n"},
		{name: "flag", context: in("app"), file: other, want: "FROM other\n"},
		{name: "flag on stdin", context: in("app"), file: "-", stdin: "FROM in\n", want: "FROM in\n", rest: "FROM in\n"},
		{name: "flag is a URL", context: in("app"), file: "https://example.com/Dockerfile"},
		{name: "missing", context: in("empty"), err: `Dockerfile "` + in("empty/Dockerfile") + `": no such file`},
		{name: "missing flag", context: in("app"), file: in("nope"), err: `Dockerfile "` + in("nope") + `": no such file`},
		{name: "directory as flag", context: in("app"), file: in("lower"), err: "is a directory"},
		{name: "no context", context: in("nope"), err: `build context "` + in("nope") + `": no such file`},
		{name: "file as context", context: other, err: "is not a directory"},
		{name: "Dockerfile on stdin", context: "-", stdin: "FROM in\n", want: "FROM in\n", rest: "FROM in\n"},
		{name: "archive on stdin", context: "-", stdin: archive, rest: archive},
		{name: "archive and flag", context: "-", file: "x", stdin: archive, rest: archive},
		{name: "two Dockerfiles", context: "-", file: "x", stdin: "FROM in\n", err: "both standard input and -f"},
		{name: "two stdins", context: "-", file: "-", err: "can't be both"},
		{name: "empty stdin", context: "-", err: "nothing on standard input"},
		{name: "git", context: "https://git.example.com/x.git#main"},
		{name: "git with own Dockerfile", context: "https://git.example.com/x.git", file: other, want: "FROM other\n"},
		{name: "git with relative flag", context: "https://git.example.com/x.git", file: "sub/Dockerfile"},
		{name: "git and stdin", context: "git@git.example.com:x.git", file: "-", stdin: "FROM in\n", want: "FROM in\n", rest: "FROM in\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Open(tc.context, tc.file, strings.NewReader(tc.stdin))
			if tc.err != "" {
				var input *InputError
				if !errors.As(err, &input) || !strings.Contains(err.Error(), tc.err) || input.Hint() == "" {
					t.Fatalf("error %v, want %q with a hint", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Dockerfile) != tc.want {
				t.Errorf("Dockerfile %q, want %q", got.Dockerfile, tc.want)
			}
			rest, err := io.ReadAll(got.Stdin)
			if err != nil || string(rest) != tc.rest {
				t.Errorf("standard input %q, want %q (%v)", rest, tc.rest, err)
			}
		})
	}
}
