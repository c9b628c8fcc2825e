package battery

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh/agent"
)

// agentSocket is where ${agent} listens.
func (r *Run) agentSocket() string { return filepath.Join(r.Out, "agent") }

// startAgent serves an ssh agent with a key of its own, for cases that name
// ${agent} in their args.
func (r *Run) startAgent() (stop func(), err error) {
	if !slices.ContainsFunc(r.Case.Args, func(a string) bool { return strings.Contains(a, "${agent}") }) {
		return func() {}, nil
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: key, Comment: "lab"}); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", r.agentSocket())
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			go func() {
				_ = agent.ServeAgent(keys, c) // a client that hangs up
				c.Close()
			}()
		}
	}()
	return func() { l.Close() }, nil
}
