package battery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/test/e2e/lab"
)

// each does several hooks, separated by ";", one after the other.
func each(ctx context.Context, r *Run, cage *lab.Cage, args []string) (string, error) {
	var out strings.Builder
	for _, words := range parts(args) {
		text, err := one(ctx, r, cage, words)
		out.WriteString(text)
		if err != nil {
			return out.String(), err
		}
	}
	return out.String(), nil
}

// together does several hooks at the same time.
func together(ctx context.Context, r *Run, cage *lab.Cage, args []string) (string, error) {
	list := parts(args)
	texts, errs := make([]string, len(list)), make([]error, len(list))
	var all sync.WaitGroup
	for i, words := range list {
		all.Go(func() { texts[i], errs[i] = one(ctx, r, cage, words) })
	}
	all.Wait()
	return strings.Join(texts, ""), errors.Join(errs...)
}

func parts(args []string) (list [][]string) {
	for part := range strings.SplitSeq(strings.Join(args, " "), ";") {
		if words := strings.Fields(part); len(words) > 0 {
			list = append(list, words)
		}
	}
	return list
}

func one(ctx context.Context, r *Run, cage *lab.Cage, words []string) (string, error) {
	do := hooks()[words[0]]
	if do == nil {
		return "", fmt.Errorf("there is no hook %q", words[0])
	}
	text, err := do(ctx, r, cage, words[1:])
	if err != nil {
		err = fmt.Errorf("%s: %w", words[0], err)
	}
	return text, err
}

// journal damages the record in the running cage: truncate cuts its end off,
// corrupt overwrites its last line, append writes garbage behind it, replay writes its own lines once
// more behind it.
func journal(_ context.Context, _ *Run, cage *lab.Cage, args []string) (string, error) {
	if len(args) != 1 {
		return "", errors.New("journal wants truncate, corrupt, append or replay")
	}
	path := fmt.Sprintf("/proc/%d/root%s", cage.PID, contract.JournalFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	switch args[0] {
	case "truncate":
		err = f.Truncate(int64(len(data) / 2))
	case "corrupt":
		at := bytes.LastIndexByte(data[:len(data)-1], '\n') + 1
		_, err = f.WriteAt(bytes.Repeat([]byte("x"), len(data)-at), int64(at))
	case "append":
		_, err = f.WriteAt([]byte("{\"seq\": oops\n"), int64(len(data)))
	case "replay":
		_, err = f.WriteAt(data, int64(len(data)))
	default:
		err = fmt.Errorf("journal %q", args[0])
	}
	return fmt.Sprintf("journal of %d bytes: %s\n", len(data), args[0]), err
}
