package process

import (
	"path"
	"slices"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
)

const (
	maxExe   = 256
	maxArgs  = 32  // entries
	maxBytes = 512 // of all arguments together
	maxLabel = 64
	maxChain = 16
	cutMark  = "..."
)

// bound escapes arguments and keeps the first ones.
func bound(args []string) []string {
	var out []string
	left := maxBytes
	for i, a := range args {
		if i == maxArgs-1 && len(args) > maxArgs || left < 16 {
			return append(out, cutMark)
		}
		a = event.EscapeMax(a, left-len(cutMark))
		left -= len(a)
		out = append(out, a)
	}
	return out
}

// label is what a person would call a process: npm ci, node postinstall.js. A
// process can call itself what it likes; where that has nothing to do with the
// file that it executes, the file is named too.
func label(exe string, args []string) string {
	file := path.Base(strings.TrimSuffix(exe, " (deleted)"))
	if len(args) == 0 || args[0] == "" {
		return file
	}
	title := strings.TrimPrefix(args[0], "-")
	if !strings.Contains(title, " ") {
		title = path.Base(title)
	}
	called, _, _ := strings.Cut(title, " ")
	words := []string{head(title, maxLabel/2)}
	for _, a := range args[1:] {
		if len(words) == 3 || !word(a) {
			break
		}
		words = append(words, path.Base(a))
	}
	text := head(strings.Join(words, " "), maxLabel-20)
	if !strings.HasPrefix(file, called) && !manyNames(file) {
		text += " (" + head(file, 16) + ")"
	}
	return text
}

// word says that an argument is short and simple enough to be part of a label.
func word(a string) bool {
	for _, c := range []byte(a) {
		simple := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("._/-+@", c) >= 0
		if !simple {
			return false
		}
	}
	return a != "" && a[0] != '-' && len(path.Base(a)) <= 32
}

// manyNames are programs that are called by other names than their own.
func manyNames(file string) bool {
	return slices.Contains([]string{"busybox", "toybox", "coreutils", "bash", "dash", "ash", "mksh", "zsh"}, file)
}

func head(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n-len(cutMark)] + cutMark
}
