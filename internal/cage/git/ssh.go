package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"
)

// sshLimit is how long connecting and authenticating may take.
const sshLimit = time.Minute

// sshCall is what git asks of ssh, in the options of the ssh program.
type sshCall struct {
	user, host, port string
	command          string
	knownHosts       string // file; "" with anyHost
	anyHost          bool   // StrictHostKeyChecking=no
	protocol         bool   // SendEnv=GIT_PROTOCOL
}

// ssh runs one command on a server with the keys of the forwarded agent.
func (p Program) ssh(ctx context.Context, args []string) error {
	call, err := parseSSH(args)
	if err != nil {
		return fmt.Errorf("ssh: %w", err)
	}
	client, err := call.dial(ctx)
	if err != nil {
		return fmt.Errorf("ssh: connecting to %s: %w", net.JoinHostPort(call.host, call.port), err)
	}
	defer client.Close()
	return p.session(client, call)
}

// parseSSH reads the options that git and BuildKit give, and refuses others:
// each would mean something that does not happen.
func parseSSH(args []string) (call sshCall, err error) {
	call.user, call.port = "root", "22"
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		option := args[0]
		args = args[1:]
		if option == "-4" || option == "-6" {
			continue
		}
		if len(args) == 0 {
			return call, fmt.Errorf("option %q needs a value", option)
		}
		if err := call.set(option, args[0]); err != nil {
			return call, err
		}
		args = args[1:]
	}
	if len(args) != 2 || args[0] == "" {
		return call, errors.New("usage: ssh [OPTION]… [USER@]HOST COMMAND")
	}
	call.host, call.command = args[0], args[1]
	if at := strings.LastIndex(call.host, "@"); at >= 0 {
		call.user, call.host = call.host[:at], call.host[at+1:]
	}
	call.host = strings.Trim(call.host, "[]")
	return call, nil
}

func (c *sshCall) set(option, value string) error {
	key, text, _ := strings.Cut(value, "=")
	switch {
	case option == "-p":
		c.port = value
	case option == "-F" && value == os.DevNull:
	case option == "-o" && key == "UserKnownHostsFile":
		c.knownHosts = text
	case option == "-o" && value == "StrictHostKeyChecking=no":
		c.anyHost = true
	case option == "-o" && value == "SendEnv=GIT_PROTOCOL":
		c.protocol = true
	default:
		return fmt.Errorf("no option %q %q in the cage", option, value)
	}
	return nil
}

// dial connects, checks the key of the host and logs in.
func (c sshCall) dial(ctx context.Context) (*ssh.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, sshLimit)
	defer cancel()
	config := &ssh.ClientConfig{User: c.user}
	address := net.JoinHostPort(c.host, c.port)
	if err := c.trust(config, address); err != nil {
		return nil, err
	}
	if socket := os.Getenv("SSH_AUTH_SOCK"); socket != "" {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		if err != nil {
			return nil, fmt.Errorf("reaching the forwarded agent: %w", err)
		}
		defer conn.Close()
		config.Auth = []ssh.AuthMethod{ssh.PublicKeysCallback(agent.NewClient(conn).Signers)}
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	sc, channels, requests, err := ssh.NewClientConn(conn, address, config)
	if err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return ssh.NewClient(sc, channels, requests), nil
}

// trust says which key the host must have. Its algorithms are those of the
// known keys, so that the host does not present another one that it also has.
func (c sshCall) trust(config *ssh.ClientConfig, address string) error {
	if c.knownHosts == "" {
		if !c.anyHost {
			return errors.New("no known hosts")
		}
		config.HostKeyCallback = func(string, net.Addr, ssh.PublicKey) error { return nil }
		return nil
	}
	known, err := knownhosts.New(c.knownHosts)
	if err != nil {
		return fmt.Errorf("reading known hosts: %w", err)
	}
	config.HostKeyCallback = known
	config.HostKeyAlgorithms, err = algorithms(known, address)
	return err
}

// algorithms are those of the keys that are known for the address.
func algorithms(known ssh.HostKeyCallback, address string) (list []string, err error) {
	var wrong *knownhosts.KeyError
	if err := known(address, &net.TCPAddr{}, noKey{}); !errors.As(err, &wrong) {
		return nil, fmt.Errorf("reading known hosts: %w", err)
	}
	if len(wrong.Want) == 0 {
		return nil, errors.New("its key is not among the known hosts")
	}
	for _, key := range wrong.Want {
		if kind := key.Key.Type(); kind == ssh.KeyAlgoRSA {
			list = append(list, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		} else {
			list = append(list, kind)
		}
	}
	return list, nil
}

// noKey is a key that no host has.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return []byte("none") }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }

// session runs the command with our streams and hands on its exit code.
func (p Program) session(client *ssh.Client, call sshCall) error {
	session, err := client.NewSession()
	if err != nil {
		return fmt.Errorf("ssh: opening a session: %w", err)
	}
	defer session.Close()
	if version := os.Getenv("GIT_PROTOCOL"); call.protocol && version != "" {
		_ = session.Setenv("GIT_PROTOCOL", version) // a server that refuses it speaks the first version
	}
	in, err := session.StdinPipe()
	if err != nil {
		return fmt.Errorf("ssh: opening a session: %w", err)
	}
	session.Stdout, session.Stderr = p.Out, p.Err
	if err := session.Start(call.command); err != nil {
		return fmt.Errorf("ssh: starting %q: %w", call.command, err)
	}
	go func() {
		_, _ = io.Copy(in, p.In) // the end of the command says what went wrong
		in.Close()
	}()
	err = session.Wait()
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		return &exitError{max(1, exit.ExitStatus())}
	}
	if err != nil {
		return fmt.Errorf("ssh: %w", err)
	}
	return nil
}
