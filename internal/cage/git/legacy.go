package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// list answers with the references of a server that does not speak version 2.
func (h *helper) list(ctx context.Context) error {
	if h.v2 { // git asked for less than it could have: begin again
		h.refs, h.v2 = nil, false
	}
	if err := h.ask(ctx, ""); err != nil {
		return err
	}
	text, err := references(h.refs)
	if err != nil {
		return h.fail(err)
	}
	return h.say(text + "\n")
}

// references words the packets of an advertisement for git. The first one
// carries what the server can do after a zero.
func references(message []byte) (string, error) {
	var b strings.Builder
	r := bytes.NewReader(message)
	for {
		p, err := readPacket(r)
		if err != nil || p.flush() {
			return b.String(), err
		}
		line, can, _ := strings.Cut(strings.TrimSuffix(string(p.payload()), "\n"), "\x00")
		for word := range strings.FieldsSeq(can) {
			if format, ok := strings.CutPrefix(word, "object-format="); ok {
				fmt.Fprintf(&b, ":object-format %s\n", format)
			}
			if at, to, ok := strings.Cut(strings.TrimPrefix(word, "symref="), ":"); ok && strings.HasPrefix(word, "symref=") {
				fmt.Fprintf(&b, "@%s %s\n", to, at)
			}
		}
		id, name, ok := strings.Cut(line, " ")
		switch {
		case line == "version 1" || strings.HasPrefix(line, "shallow "):
		case strings.HasPrefix(line, "ERR "):
			return "", fmt.Errorf("remote error: %.200q", line[4:])
		case !ok || strings.ContainsAny(name, " \n"):
			return "", fmt.Errorf("reading references: got %.200q", line)
		case name != "capabilities^{}": // of a repository without any
			fmt.Fprintf(&b, "%s %s\n", id, name)
		}
	}
}

// fetch fetches what this line and the next ones up to an empty one name. Git's
// own fetch-pack finds out what to ask for; we carry its messages.
func (h *helper) fetch(ctx context.Context, first string) error {
	var want bytes.Buffer
	for line := first; ; {
		fmt.Fprintf(&want, "%04x%s\n", headSize+len(line)+1, line)
		next, err := h.in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("reading from git: %w", err)
		}
		if next == "\n" {
			break
		}
		line = strings.TrimPrefix(strings.TrimSuffix(next, "\n"), "fetch ")
	}
	want.WriteString(flushPacket)
	want.Write(h.refs)
	said, err := h.fetchPack(ctx, want.Bytes())
	if err != nil {
		return err
	}
	return h.say(said + "\n")
}

// fetchPack runs git fetch-pack with begin as its first input, and returns what
// it has to say at its end.
func (h *helper) fetchPack(ctx context.Context, begin []byte) (said string, err error) {
	args := []string{"fetch-pack", "--stateless-rpc", "--stdin", "--lock-pack", "--no-progress"}
	if h.options["followtags"] == "true" {
		args = append(args, "--include-tag")
	}
	if depth := h.options["depth"]; depth != "" {
		args = append(args, "--depth="+depth)
	}
	if h.options["cloning"] == "true" {
		args = append(args, "--cloning")
	}
	if h.options["update-shallow"] == "true" {
		args = append(args, "--update-shallow")
	}
	cmd := exec.CommandContext(ctx, h.Git, append(args, h.base+"/")...)
	cmd.Stderr = h.Err
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", fmt.Errorf("starting git fetch-pack: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", fmt.Errorf("starting git fetch-pack: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("starting git fetch-pack: %w", err)
	}
	said, err = h.carry(ctx, in, out, begin)
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("running git fetch-pack: %w", err)
	}
	return said, nil
}

// carry makes a request of each message that fetch-pack writes, and gives it
// the answer. An empty message is its last.
func (h *helper) carry(ctx context.Context, in io.WriteCloser, out io.Reader, begin []byte) (said string, err error) {
	defer in.Close()
	if _, err := in.Write(begin); err != nil {
		return "", fmt.Errorf("writing to git fetch-pack: %w", err)
	}
	for {
		message, err := readMessage(out, maxRequest)
		if errors.Is(err, io.EOF) {
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("reading from git fetch-pack: %w", err)
		}
		if packet(message).flush() {
			break
		}
		if err := h.pass(ctx, in, message); err != nil {
			return "", err
		}
	}
	in.Close()
	rest, err := io.ReadAll(io.LimitReader(out, 1<<20))
	if err != nil {
		return "", fmt.Errorf("reading from git fetch-pack: %w", err)
	}
	return string(rest), nil
}

// pass sends the content of the packets of a message, which only wrap it.
func (h *helper) pass(ctx context.Context, in io.Writer, message []byte) error {
	var request []byte
	for r := bytes.NewReader(message); ; {
		p, err := readPacket(r)
		if err != nil {
			return fmt.Errorf("reading from git fetch-pack: %w", err)
		}
		if p.flush() {
			break
		}
		request = append(request, p.payload()...)
	}
	answer, err := h.call(ctx, "", request)
	if err != nil {
		return err
	}
	defer answer.Close()
	if _, err := io.Copy(in, answer); err != nil {
		return h.fail(err)
	}
	return nil
}
