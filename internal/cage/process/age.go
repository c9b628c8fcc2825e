package process

import (
	"time"

	"golang.org/x/sys/unix"
)

// clockTick is the unit of process start times: the kernel's USER_HZ is 100 on
// every platform that Go runs on.
const clockTick = 10 * time.Millisecond

// The age of a connection comes in the kernel's own ticks, of 10 ms at most: it
// may have been opened one of ours earlier or later. Start times are rounded down.

// younger says that what started then was certainly not there when the
// connection was opened, and older that it certainly was.
func younger(start, opened uint64) bool { return start > opened+1 }
func older(start, opened uint64) bool   { return start+3 <= opened }

// opened is when the accepted connection was established, in clock ticks since
// boot: what was started later did not open it. It may have waited to be
// accepted for long. 0 is unknown, and makes everything look younger.
func opened(fd int) uint64 {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return 0
	}
	info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
	if err != nil || info.Data_segs_out > 0 {
		return 0
	}
	// Nothing was sent yet: then the time since the last sending is the age.
	age := time.Duration(info.Last_data_sent) * time.Millisecond
	return uint64(max(0, time.Duration(now.Nano())-age) / clockTick)
}
