package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"

	"golang.org/x/crypto/ssh"
)

// serveSSH answers git-upload-pack for whoever has the key.
func serveSSH(authorized string) error {
	allowed, _, _, _, err := ssh.ParseAuthorizedKey([]byte(authorized))
	if err != nil {
		return fmt.Errorf("reading the key: %w", err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	host, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		return err
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if c.User() != "git" || !bytes.Equal(key.Marshal(), allowed.Marshal()) {
			return nil, errors.New("not you")
		}
		return nil, nil
	}}
	config.AddHostKey(host)
	l, err := net.Listen("tcp", ":22")
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go serveConn(conn, config)
	}
}

func serveConn(conn net.Conn, config *ssh.ServerConfig) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		if c.ChannelType() != "session" {
			_ = c.Reject(ssh.UnknownChannelType, "sessions only")
			continue
		}
		if channel, requests, err := c.Accept(); err == nil {
			go serveSession(channel, requests)
		}
	}
}

var uploadPack = regexp.MustCompile(`^git-upload-pack '/?([a-z0-9-]+\.git)'$`)

func serveSession(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	env := gitEnv()
	for r := range requests {
		var pair struct{ Name, Value string }
		var command struct{ Line string }
		switch {
		case r.Type == "env" && ssh.Unmarshal(r.Payload, &pair) == nil && pair.Name == "GIT_PROTOCOL":
			env = append(env, pair.Name+"="+pair.Value)
			_ = r.Reply(true, nil)
		case r.Type == "exec" && ssh.Unmarshal(r.Payload, &command) == nil:
			_ = r.Reply(true, nil)
			code := uint32(1)
			if found := uploadPack.FindStringSubmatch(command.Line); found != nil {
				cmd := exec.Command("/git", "upload-pack", filepath.Join(repositories, found[1]))
				cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = channel, channel, channel.Stderr(), env
				if cmd.Run() == nil {
					code = 0
				}
			}
			_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{code}))
			return
		default:
			_ = r.Reply(false, nil)
		}
	}
}
