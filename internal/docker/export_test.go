package docker

import (
	"bufio"
	"context"
	"io"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// Abandon closes the client's end of the cage, as the death of the client does.
func (c *Cage) Abandon() { c.attach.close() }

// Create claims a slot and goes no further, as a client that dies there does.
func (e *Engine) Create(ctx context.Context, facts Facts, c Config) (*Cage, error) {
	return e.claim(ctx, facts, c)
}

func Abandoned(state string, created int64, labels map[string]string, gone func(string) bool) bool {
	return abandoned(container.Summary{State: container.ContainerState(state), Created: created, Labels: labels}, gone)
}

// Demux reads the standard output of a multiplexed stream.
func Demux(src io.Reader, stderr io.Writer) io.Reader { return &demux{src: src, stderr: stderr} }

// First reads what a session's process says first.
func First(text string) error {
	l := &line{out: bufio.NewReaderSize(strings.NewReader(text), preface), stderr: newTail(nil)}
	_, err := l.Read(make([]byte, 1))
	return err
}

// CacheOf is what the cache of a slot may hold.
func CacheOf(most int64, slot int) int64 { return cacheOf(most, slot) }
