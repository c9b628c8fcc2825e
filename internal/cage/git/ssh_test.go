package git

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/buildcage/buildcage/internal/contract"
)

func newKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// sshServer runs commands by echoing their input, for those who have a key. A
// command that is a digit is its own exit code.
func sshServer(t *testing.T, host ssh.Signer, user ssh.PublicKey) (port string) {
	t.Helper()
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(user.Marshal()) {
			return nil, io.ErrUnexpectedEOF
		}
		return nil, nil
	}}
	config.AddHostKey(host)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answerSSH(c, config)
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

func answerSSH(c net.Conn, config *ssh.ServerConfig) {
	defer c.Close()
	_, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for offer := range channels {
		channel, requests, err := offer.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			var command struct{ Line string }
			if r.Type != "exec" || ssh.Unmarshal(r.Payload, &command) != nil {
				_ = r.Reply(r.Type == "env", nil)
				continue
			}
			_ = r.Reply(true, nil)
			_, _ = io.Copy(channel, channel)
			_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(command.Line[0] - '0')}))
			channel.Close()
		}
	}
}

// The right host gets the command and the streams; another one, which has
// another key, gets nothing, and neither does one without our key.
func TestSSH(t *testing.T) {
	host, mine := newKey(t), newKey(t)
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	listed, err := keys.List()
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(keys, c) }()
		}
	}()
	t.Setenv("SSH_AUTH_SOCK", socket)
	for name, c := range map[string]struct {
		known ssh.PublicKey // nil: whatever the host has
		user  ssh.PublicKey
		do    string
		code  int
		out   string
	}{
		"right":      {host.PublicKey(), listed[0], "0", 0, "hello"},
		"any host":   {nil, listed[0], "0", 0, "hello"},
		"failing":    {host.PublicKey(), listed[0], "3", 3, "hello"},
		"wrong host": {mine.PublicKey(), listed[0], "0", exitFatal, ""},
		"wrong key":  {host.PublicKey(), mine.PublicKey(), "0", exitFatal, ""},
	} {
		t.Run(name, func(t *testing.T) {
			port := sshServer(t, host, c.user)
			words := "ssh -F /dev/null -o StrictHostKeyChecking=no"
			if c.known != nil {
				file := filepath.Join(t.TempDir(), "known")
				text := knownhosts.Line([]string{net.JoinHostPort("127.0.0.1", port)}, c.known)
				if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				words = "ssh -F /dev/null -o UserKnownHostsFile=" + file
			}
			p, out, errs := program(t, "hello")
			args := []string{"-c", words + ` "$@"`, words, "-p", port, "git@127.0.0.1", c.do}
			code := p.Run(context.Background(), contract.CommandGitRun, args)
			if code != c.code || out.String() != c.out || (code == exitFatal) != strings.HasPrefix(errs.String(), "fatal: ssh: ") {
				t.Errorf("exit code %d, says %q %q", code, out, errs)
			}
		})
	}
}
