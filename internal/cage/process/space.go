package process

import (
	"fmt"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// space is the network namespace of one step.
type space struct {
	path string

	mu     sync.Mutex
	opened bool
	closed bool
	err    error
	diag   *diag
	net    uint64 // inode of the namespace
	last   int    // id of the process that the last lookup found; only passes use it
}

// inode returns the inode of the step's socket.
func (sp *space) inode(client, server netip.AddrPort) (uint64, error) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.closed {
		return 0, errNoSocket
	}
	if !sp.opened {
		sp.opened = true
		sp.err = sp.open()
	}
	if sp.err != nil {
		return 0, sp.err
	}
	return sp.diag.inode(client, server)
}

func (sp *space) open() error {
	ns, err := os.Open(sp.path)
	if err != nil {
		return fmt.Errorf("opening the step's network namespace: %w", err)
	}
	defer ns.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(ns.Fd()), &st); err != nil {
		return fmt.Errorf("reading the step's network namespace: %w", err)
	}
	sp.net = st.Ino
	sp.diag, err = dialDiag(int(ns.Fd()))
	return err
}

func (sp *space) close() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.closed = true
	if sp.diag != nil {
		sp.diag.close()
		sp.diag = nil
	}
}
