package battery

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/config"
	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/test/e2e/lab"
	"github.com/buildcage/buildcage/test/e2e/lab/wire"
)

// second is a cage that the harness starts by hand, beside that of the
// program, to start it wrongly.
type second struct {
	id, dir   string
	stamp     string   // makes its run id its own
	create    []string // further flags of docker create
	caps      []string
	empty     []string // files of the image that are emptied
	breach    *breach
	late      string // file of the running cage that is removed once it is ready
	solve     string // directory that is built in it
	impatient bool   // build from the first moment
}

// boot starts a second cage and says what becomes of it: its state, and the
// error of a build (DIR of the context) at its front door. Arguments:
//
//	without=CAP     a capability that it does not get
//	sysctl=KEY=N    a setting of its network
//	env=KEY=VALUE   a variable
//	empty=PATH      a program of its image that is empty
//	remove=PATH     a file that is removed once it is ready
//	drop=tcp:80     packets that somebody else's rule swallows, also udp:9, tcp6:80 …
//	early           the build is asked for from the first moment
//	solve=DIR
func boot(ctx context.Context, r *Run, cage *lab.Cage, args []string) (string, error) {
	s := &second{caps: []string{"SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"}, dir: r.Out, stamp: strings.ToLower(rand.Text())}
	for _, a := range args {
		if err := s.option(a); err != nil {
			return "", err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := s.make(ctx, cage); err != nil {
		return "", err
	}
	defer func() {
		_ = exec.Command("docker", "rm", "-fv", s.id).Run() //nolint:gosec // our own id
	}()
	text, err := s.run(ctx, r)
	return fmt.Sprintf("boot %s: %s\n", strings.Join(args, " "), text), err
}

func (s *second) option(a string) (err error) {
	key, value, _ := strings.Cut(a, "=")
	switch key {
	case "without":
		s.caps = slices.DeleteFunc(s.caps, func(c string) bool { return c == value })
	case "sysctl":
		s.create = append(s.create, "--sysctl", value)
	case "env":
		s.create = append(s.create, "--env", value)
	case "empty":
		s.empty = append(s.empty, value)
	case "remove":
		s.late = value
	case "drop":
		s.breach, err = parseBreach(value)
	case "early":
		s.impatient = true
	case "solve":
		s.solve = value
	default:
		err = fmt.Errorf("unknown argument %q", a)
	}
	return err
}

func (s *second) make(ctx context.Context, cage *lab.Cage) error {
	var c []struct {
		Config     struct{ Image string }
		HostConfig struct{ SecurityOpt []string }
	}
	out, err := exec.CommandContext(ctx, "docker", "inspect", cage.ID).Output()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, &c); err != nil {
		return err
	}
	args := []string{"create", "-i", "--log-driver", "none", "--network", lab.Network, "--label", contract.LabelRun + "=" + s.runID(), "--label", "com.buildcage.lab=1",
		"--cgroupns", "private", "--tmpfs", "/run", "--tmpfs", "/tmp:exec", "--tmpfs", "/var/lib/cni", "-v", contract.StateDir}
	for _, name := range s.caps {
		args = append(args, "--cap-add", name)
	}
	for _, o := range c[0].HostConfig.SecurityOpt {
		if profile, ok := strings.CutPrefix(o, "seccomp="); ok {
			file := filepath.Join(s.dir, "seccomp-"+s.stamp)
			if err := os.WriteFile(file, []byte(profile), 0o600); err != nil {
				return err
			}
			o = "seccomp=" + file
		}
		args = append(args, "--security-opt", o)
	}
	args = append(append(args, s.create...), c[0].Config.Image)
	id, err := exec.CommandContext(ctx, "docker", args...).Output()
	if err != nil {
		return fmt.Errorf("creating a second cage: %w", err)
	}
	s.id = strings.TrimSpace(string(id))
	return s.emptyFiles(ctx)
}

func (s *second) runID() string { return "lab" + s.stamp }

func (s *second) emptyFiles(ctx context.Context) error {
	file := filepath.Join(s.dir, "empty-"+s.stamp)
	if err := os.WriteFile(file, nil, 0o755); err != nil {
		return err
	}
	for _, path := range s.empty {
		if out, err := exec.CommandContext(ctx, "docker", "cp", file, s.id+":"+path).CombinedOutput(); err != nil {
			return fmt.Errorf("emptying %s: %w: %s", path, err, out)
		}
	}
	return nil
}

// run starts it, breaks what is to be broken before it knows its
// configuration, and builds.
func (s *second) run(ctx context.Context, r *Run) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", "start", "-a", "-i", s.id)
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	defer func() {
		in.Close()
		_ = cmd.Wait() // how it ends shows in its state
	}()
	c, err := r.Lab.Cage(ctx, func(c *lab.Cage) bool { return c.ID == s.id })
	if err != nil {
		return "", err
	}
	if s.breach != nil {
		if err := s.breach.apply(c.PID); err != nil {
			return "", err
		}
	}
	built := make(chan string, 1)
	if s.impatient {
		go func() { built <- s.insist(ctx, r, c) }()
	}
	if err := s.configure(in, r); err != nil {
		return "", err
	}
	text := state(out)
	if s.late != "" {
		if err := os.Remove(fmt.Sprintf("/proc/%d/root%s", c.PID, s.late)); err != nil {
			return text, err
		}
	}
	switch {
	case s.impatient:
		text += "; " + <-built
	case s.solve != "":
		if !strings.HasPrefix(text, "state="+string(contract.StateReady)) {
			short, cancel := context.WithTimeout(ctx, 3*time.Second) // nobody is expected to answer
			defer cancel()
			ctx = short
		}
		log, err := solve(ctx, r, c, []string{s.solve})
		text += fmt.Sprintf("; build: %v %s", err, log)
	}
	return text, nil
}

// insist asks for the build until there is somebody to ask.
func (s *second) insist(ctx context.Context, r *Run, c *lab.Cage) string {
	for n := 1; ctx.Err() == nil; n++ {
		if !answers(ctx, c) {
			continue
		}
		log, err := solve(ctx, r, c, []string{s.solve})
		return fmt.Sprintf("build: asked %d times: %v %s", n, err, log)
	}
	return "build: nobody ever answered"
}

// answers reports whether the front door of a cage is open.
func answers(ctx context.Context, cage *lab.Cage) bool {
	ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	c, err := Dial(ctx, cage)
	if err != nil {
		return false
	}
	defer c.Close()
	_, err = c.Info(ctx)
	return err == nil
}

func (s *second) configure(in io.Writer, r *Run) error {
	cfg, err := config.Load("buildcage.yaml", []byte(r.fill(r.Case.Policy)))
	if err != nil {
		return err
	}
	cfg.Spec.Mode = map[Mode]policy.Mode{Restrict: policy.Restrict, Audit: policy.Audit}[r.Mode]
	line, err := json.Marshal(contract.Boot{
		Version: contract.BootVersion, RunID: s.runID(), CLI: "lab", Policy: cfg.Spec,
		Resolvers: []netip.AddrPort{netip.MustParseAddrPort(wire.Names + ":53")},
	})
	if err != nil {
		return err
	}
	_, err = in.Write(append(line, '\n'))
	return err
}

// state reads what the cage says of itself.
func state(out io.Reader) string {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var s contract.Status
		if err := json.Unmarshal(lines.Bytes(), &s); err == nil && s.State != contract.StateStarting {
			return fmt.Sprintf("state=%s error=%s", s.State, s.Error)
		}
	}
	return "ended without a word"
}

// breach is a rule of somebody else's in the cage's network.
type breach struct {
	family nftables.TableFamily
	proto  byte
	port   uint16
}

func parseBreach(text string) (*breach, error) {
	proto, port, _ := strings.Cut(text, ":")
	n, err := strconv.ParseUint(port, 10, 16)
	b := &breach{family: nftables.TableFamilyIPv4, port: uint16(n)}
	if name, six := strings.CutSuffix(proto, "6"); six {
		proto, b.family = name, nftables.TableFamilyIPv6
	}
	switch proto {
	case "tcp":
		b.proto = unix.IPPROTO_TCP
	case "udp":
		b.proto = unix.IPPROTO_UDP
	default:
		return nil, fmt.Errorf("drop=%s", text)
	}
	return b, err
}

func (b *breach) apply(pid int) error {
	space, err := netns.GetFromPid(pid)
	if err != nil {
		return err
	}
	defer space.Close()
	c := &nftables.Conn{NetNS: int(space)}
	table := c.AddTable(&nftables.Table{Family: b.family, Name: "somebody"})
	chain := c.AddChain(&nftables.Chain{
		Name: "c", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRef(-400),
	})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{b.proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(b.port >> 8), byte(b.port)}},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	return c.Flush()
}

// inspect says how the cage's container was made.
func inspect(ctx context.Context, _ *Run, cage *lab.Cage, _ []string) (string, error) {
	const format = `privileged={{.HostConfig.Privileged}}
caps={{.HostConfig.CapAdd}}
readonly={{.HostConfig.ReadonlyRootfs}}
network={{.HostConfig.NetworkMode}}
pid={{.HostConfig.PidMode}} ipc={{.HostConfig.IpcMode}} uts={{.HostConfig.UTSMode}} userns={{.HostConfig.UsernsMode}} cgroupns={{.HostConfig.CgroupnsMode}}
binds={{.HostConfig.Binds}} ports={{len .HostConfig.PortBindings}} published={{len .NetworkSettings.Ports}} devices={{len .HostConfig.Devices}}
{{range .Mounts}}mount={{.Type}} {{.Destination}}
{{end}}{{range .HostConfig.SecurityOpt}}security={{printf "%.30s" .}}
{{end}}restart={{.HostConfig.RestartPolicy.Name}} remove={{.HostConfig.AutoRemove}}
`
	out, err := exec.CommandContext(ctx, "docker", "inspect", "--format", format, cage.ID).CombinedOutput()
	return string(out), err
}

// again restarts the container behind the program's back, and asks its front
// door for a build (DIR of the context).
func again(ctx context.Context, r *Run, cage *lab.Cage, args []string) (string, error) {
	if len(args) != 1 {
		return "", errors.New("restart wants a directory")
	}
	out, err := exec.CommandContext(ctx, "docker", "restart", "-t", "0", cage.ID).CombinedOutput()
	text := fmt.Sprintf("restart: %s %v\n", bytes.TrimSpace(out), err)
	short, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	log, err := solve(short, r, cage, args)
	return fmt.Sprintf("%sbuild: %v %s", text, err, log), nil
}

// program runs the program once more, beside the case: build or audit of DIR.
func program(ctx context.Context, r *Run, _ *lab.Cage, args []string) (string, error) {
	if len(args) != 2 {
		return "", errors.New("program wants build|audit DIR")
	}
	dir := filepath.Join(r.Dir, args[1])
	out, err := exec.CommandContext(ctx, r.Binary, args[0], "--report", "json", "--cage-network", lab.Network, "--cage-resolver", wire.Names+":53",
		"--extra-ca", r.Lab.CAFile, "--output", "type=cacheonly", "--no-cache", "--progress", "plain", dir).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Sprintf("%s\nprogram: exit %d\n", out, exit.ExitCode()), nil
	}
	return fmt.Sprintf("%s\nprogram: exit 0\n", out), err
}
