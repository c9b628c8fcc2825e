package git

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// version2 is how a client asks for protocol version 2.
const version2 = "version=2"

// remote is git's remote helper for http and https: git writes commands to it,
// a line each, and it does them until there are no more.
// https://git-scm.com/docs/gitremote-helpers
func (p Program) remote(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: git-remote-https REMOTE [URL]")
	}
	s, err := p.dial(ctx, args[len(args)-1])
	if err != nil {
		return err
	}
	h := &helper{Program: p, server: s, in: bufio.NewReader(p.In)}
	for {
		line, err := h.in.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading from git: %w", err)
		}
		done, err := h.do(ctx, strings.TrimSuffix(line, "\n"))
		if done || err != nil {
			return err
		}
	}
}

// helper is one conversation with git.
type helper struct {
	Program
	*server
	in      *bufio.Reader
	options map[string]string
	refs    []byte // packets of the list of references, once it was asked for
}

// do does one command. It is done when there can be no other.
func (h *helper) do(ctx context.Context, line string) (done bool, err error) {
	command, rest, _ := strings.Cut(line, " ")
	switch command {
	case "":
		return true, nil
	case "capabilities":
		return false, h.say("stateless-connect\nfetch\noption\nobject-format\n\n")
	case "option":
		return false, h.say(h.option(rest) + "\n")
	case "stateless-connect":
		return h.connect(ctx, rest)
	case "list":
		if rest == "for-push" {
			return false, errors.New("the cage reads repositories and writes none")
		}
		return false, h.list(ctx)
	case "fetch":
		return false, h.fetch(ctx, rest)
	}
	return false, fmt.Errorf("git asks its helper for %q, which it can't do", command)
}

func (h *helper) say(text string) error {
	if _, err := io.WriteString(h.Out, text); err != nil {
		return fmt.Errorf("writing to git: %w", err)
	}
	return nil
}

// option notes what concerns a fetch.
func (h *helper) option(text string) (answer string) {
	name, value, _ := strings.Cut(text, " ")
	switch name {
	case "depth", "verbosity", "progress", "cloning", "update-shallow", "followtags", "object-format":
	default:
		return "unsupported"
	}
	if h.options == nil {
		h.options = make(map[string]string)
	}
	h.options[name] = value
	return "ok"
}

// connect carries protocol version 2 between git and the server: each message
// of git's becomes a request. A server that does not speak it falls back to
// list and fetch.
func (h *helper) connect(ctx context.Context, name string) (done bool, err error) {
	if name != service {
		return false, h.say("fallback\n")
	}
	if err := h.ask(ctx, version2); err != nil {
		return false, err
	}
	if !h.v2 {
		return false, h.say("fallback\n")
	}
	if err := h.say("\n" + string(h.refs)); err != nil {
		return false, err
	}
	for {
		request, err := readMessage(h.in, maxRequest)
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("reading from git: %w", err)
		}
		if err := h.exchange(ctx, request); err != nil {
			return false, err
		}
	}
}

func (h *helper) exchange(ctx context.Context, request []byte) error {
	answer, err := h.call(ctx, version2, request)
	if err != nil {
		return err
	}
	defer answer.Close()
	if err := copyPackets(h.Out, answer); err != nil {
		return h.fail(err)
	}
	return h.say(endPacket)
}

// ask keeps the server's first answer, without the line that only names the service.
func (h *helper) ask(ctx context.Context, version string) error {
	if h.refs != nil {
		return nil
	}
	body, err := h.discover(ctx, version)
	if err != nil {
		return err
	}
	defer body.Close()
	r := bufio.NewReader(body)
	message, err := readMessage(r, maxRefs)
	if err == nil && bytes.HasPrefix(packet(message).payload(), []byte("# service=")) {
		message, err = readMessage(r, maxRefs)
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errCut
		}
		return h.fail(err)
	}
	h.refs = message
	h.v2 = bytes.HasPrefix(packet(message).payload(), []byte("version 2"))
	return nil
}
