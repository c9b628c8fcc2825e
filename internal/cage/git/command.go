package git

import (
	"context"
	"fmt"
	"strings"
)

// noShellError refuses a command line that only a shell could run.
type noShellError struct{ line string }

func (e *noShellError) Error() string { return fmt.Sprintf("no shell in the cage to run %q", e.line) }

// command stands where git looks for a shell. It runs the two programs that
// git starts in that way and BuildKit needs, and no others: ssh, and the other
// end of a repository in the file system.
//
//	git-run -c 'ssh -F /dev/null … "$@"' 'ssh -F /dev/null …' ARG…
//	git-run -c "git-upload-pack '/path'" "git-upload-pack '/path'"
func (p Program) command(ctx context.Context, args []string) error {
	line := ""
	if len(args) >= 3 && args[0] == "-c" {
		line = args[1]
	}
	if words, ok := strings.CutSuffix(line, ` "$@"`); ok && args[2] == words {
		if words := strings.Split(words, " "); words[0] == "ssh" && plain(words) {
			return p.ssh(ctx, append(words[1:], args[3:]...))
		}
	}
	if quoted, ok := strings.CutPrefix(line, service+" "); ok && len(args) == 3 {
		if path, ok := unquote(quoted); ok && strings.HasPrefix(path, "/") {
			return p.git(ctx, nil, strings.TrimPrefix(service, "git-"), path)
		}
	}
	return &noShellError{line}
}

// plain reports whether a shell would take the words as they are.
func plain(words []string) bool {
	for _, word := range words {
		if word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./=:,@+-") != "" {
			return false
		}
	}
	return true
}

// unquote undoes what git does to quote a word for a shell: single quotes
// around it, quotes and exclamation marks escaped outside of them.
func unquote(s string) (word string, ok bool) {
	var b strings.Builder
	for s != "" {
		switch {
		case s[0] == '\'':
			text, rest, ok := strings.Cut(s[1:], "'")
			if !ok {
				return "", false
			}
			b.WriteString(text)
			s = rest
		case strings.HasPrefix(s, `\'`), strings.HasPrefix(s, `\!`):
			b.WriteByte(s[1])
			s = s[2:]
		default:
			return "", false
		}
	}
	return b.String(), true
}
