package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/pflag"

	"github.com/buildcage/buildcage/internal/lock"
	"github.com/buildcage/buildcage/internal/report"
)

// locking is what a build does with its lock.
type locking struct {
	write bool
	judge bool
	file  string

	target *target    // of write
	old    *lock.Lock // nil: there is none
}

func (l *locking) install(flags *pflag.FlagSet) {
	flags.BoolVar(&l.write, "lock", false, "Write what the steps reached to buildcage.lock, beside the policy")
	flags.StringVar(&l.file, "lock-file", "", "The lock is this `FILE`")
	flags.BoolVar(&l.judge, "locked", false, "Exit with 4 when the steps reach anything that buildcage.lock does not say, or less")
}

// openLock reads the lock, and finds out whether it can be written.
func (b *build) openLock() error {
	l := &b.lock
	if !l.write && !l.judge {
		return nil
	}
	if l.write && l.judge {
		return usagef("leave one of them out", "--lock writes the lock that --locked judges by")
	}
	l.file = cmp.Or(l.file, filepath.Join(b.lockDir(), lock.Name))
	data, err := os.ReadFile(l.file)
	switch {
	case err == nil:
		if l.old, err = lock.Parse(l.file, data); err != nil && l.judge {
			return err
		}
	case l.judge:
		return &usageError{msg: fmt.Sprintf("--locked: reading %q: %v", l.file, bare(err)), hint: "write it first: buildcage audit --lock", err: err}
	case !errors.Is(err, fs.ErrNotExist):
		return &usageError{msg: fmt.Sprintf("--lock: reading %q: %v", l.file, bare(err)), hint: "name another file with --lock-file", err: err}
	}
	if l.write {
		l.target, err = openTarget(l.file, "--lock")
		return err
	}
	return nil
}

// lockDir is where the policy is, or would be.
func (b *build) lockDir() string {
	switch {
	case b.policy.path != "":
		return filepath.Dir(b.policy.path)
	case b.write != nil && b.write.path != stdoutName:
		return filepath.Dir(b.write.path)
	}
	return cmp.Or(b.input.Local, ".")
}

// settleLock writes the lock or judges by it, after a whole and successful run.
// It returns the exit code for that.
func (b *build) settleLock(r *report.Report) int {
	l := &b.lock
	if !l.write && !l.judge {
		return 0
	}
	if r.Outcome != report.Clean && r.Outcome != report.Refused {
		b.note(fmt.Sprintf("%s is not looked at: %s", l.file, r.Outcome))
		return 0
	}
	run := lock.Of(r)
	if l.judge {
		return b.judgeLock(run)
	}
	b.keepUnknown(run)
	if err := l.target.save(func(w io.Writer) error { _, err := w.Write(run.Encode()); return err }); err != nil {
		b.tell(err)
		return exitCage
	}
	b.note("lock written to " + l.file)
	return 0
}

// keepUnknown takes what the old lock says of steps that the cache answered for.
func (b *build) keepUnknown(run *lock.Lock) {
	if len(run.Unknown) == 0 {
		return
	}
	b.note(fmt.Sprintf("%s from the cache without evidence: the lock keeps what it said of them; --no-cache makes sure", count(len(run.Unknown))))
	if b.lock.old == nil {
		return
	}
	for _, s := range b.lock.old.Steps {
		if slices.Contains(run.Unknown, s.Key) {
			run.Put(s)
		}
	}
}

func (b *build) judgeLock(run *lock.Lock) int {
	d := lock.Compare(b.lock.file, b.lock.old, "this build", run)
	if d.Same {
		return 0
	}
	b.tell(&hinted{fmt.Errorf("%s does not fit: %s", b.lock.file, d.Summary()), "if that is meant, write it again with --lock instead of --locked"})
	if err := d.Text(b.streams.err); err != nil {
		b.tell(err)
	}
	return exitDrift
}
