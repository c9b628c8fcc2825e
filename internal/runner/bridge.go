package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/buildcage/buildcage/internal/contract"
)

// bridge is a private unix socket; every connection to it becomes a connection
// to BuildKit in the cage, over an exec of its own.
type bridge struct {
	listener net.Listener
	cage     cage
	ctx      context.Context
	cancel   context.CancelFunc
	all      sync.WaitGroup
}

// openBridge listens on path, which must be in a private directory: whoever
// can connect can build.
func openBridge(path string, c cage) (*bridge, error) {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening for the build: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &bridge{listener: listener, cage: c, ctx: ctx, cancel: cancel}
	b.all.Go(b.accept)
	return b, nil
}

func (b *bridge) accept() {
	for {
		conn, err := b.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			b.all.Go(func() { b.serve(conn.(*net.UnixConn)) })
		}
	}
}

// serve ends when BuildKit's side does; the end of the client's side is only
// passed on, because an answer may still come.
func (b *bridge) serve(conn *net.UnixConn) {
	defer conn.Close()
	remote, err := b.cage.Exec(b.ctx, contract.CommandDialStdio)
	if err != nil {
		return // the client sees a closed connection; why the cage is gone is told elsewhere
	}
	defer remote.Close()
	stop := context.AfterFunc(b.ctx, func() {
		remote.Close()
		conn.Close()
	})
	defer stop()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(remote, conn) // an error shows in the other direction
		remote.CloseWrite()
	}()
	_, _ = io.Copy(conn, remote) // however it ended, both ends are closed
	conn.Close()
	<-sent
}

// close ends all connections and returns when they have ended.
func (b *bridge) close() error {
	err := b.listener.Close()
	b.cancel()
	b.all.Wait()
	return err
}
