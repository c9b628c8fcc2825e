package process

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// held is what a process had open at the last look. While it has used no
// processor time since, it has neither opened nor got anything: in a step with
// hundreds of processes, most need not be looked at again.
type held struct {
	at      time.Duration // processor time before the look; 0: never
	sockets map[uint64]string
}

// sockets returns the inodes of the sockets that p has open, with the names of
// the descriptors. It is empty when p has ended.
func (t *table) sockets(p *proc) map[uint64]string {
	used := processorTime(p.pid)
	if t.fine && used > 0 && used == p.held.at {
		return p.held.sockets
	}
	p.held = held{at: used, sockets: make(map[uint64]string)}
	err := t.entries(p.fds, func(_ uint64, name []byte) bool {
		if name[0] == '.' {
			return true
		}
		if inode, ok := t.socket(p.fds, name); ok {
			p.held.sockets[inode] = string(name[:len(name)-1])
		}
		return true
	})
	if err != nil {
		p.held = held{}
	}
	return p.held.sockets
}

// processorTime is what all threads of a process have used; see
// clock_getcpuclockid(3). It is 0 for a process that has ended.
func processorTime(pid int) time.Duration {
	const scheduler = 2 // CPUCLOCK_SCHED
	var ts unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|scheduler), &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// watch measures processor time. Where the goroutine was moved to another thread
// meanwhile it is the time of day, which is never less: holding on to a thread
// costs every pass two switches between threads.
type watch struct {
	thread int
	used   time.Duration
	began  time.Time
}

func startWatch() watch { return watch{unix.Gettid(), threadTime(), time.Now()} }

func (w watch) spent() time.Duration {
	used := threadTime()
	if unix.Gettid() != w.thread {
		return time.Since(w.began)
	}
	return used - w.used
}

// threadTime is the processor time of the calling thread.
func threadTime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// fineClock says that processor time grows with every run of a process,
// however short. Without a good clock the kernel counts in milliseconds.
func fineClock() bool {
	last := processorTime(0)
	for range 10_000 {
		now := processorTime(0)
		if d := now - last; d > 0 {
			return d < 100*time.Microsecond
		}
	}
	return false
}

// socket reads the link of a descriptor; name ends in a zero byte.
func (t *table) socket(dir int, name []byte) (uint64, bool) {
	n, _, errno := unix.Syscall6(unix.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])),
		uintptr(unsafe.Pointer(&t.link[0])), uintptr(len(t.link)), 0, 0)
	if errno != 0 {
		return 0, false
	}
	return between(t.link[:n], "socket:[")
}
