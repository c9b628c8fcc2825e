package doctor

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/client"

	"github.com/buildcage/buildcage/internal/docker"
)

// Gather asks the engine and, where it is on this machine, the machine.
func Gather(ctx context.Context, e *docker.Engine) *Facts {
	f := &Facts{Host: e.Client.DaemonHost(), TLS: os.Getenv("DOCKER_TLS_VERIFY") != "" || os.Getenv("DOCKER_TLS") != ""}
	f.Engine, f.EngineErr = e.Check(ctx, "")
	f.Local = strings.HasPrefix(f.Host, "unix://") || strings.HasPrefix(f.Host, "npipe://")
	if f.EngineErr == nil {
		f.ask(ctx, e.Client)
	}
	if f.Local {
		f.look("/")
	}
	f.Builder = os.Getenv("BUILDX_BUILDER")
	f.ConfigErr = checkConfig()
	return f
}

func (f *Facts) ask(ctx context.Context, api client.APIClient) {
	result, err := api.Info(ctx, client.InfoOptions{})
	if err != nil {
		f.EngineErr = err
		return
	}
	info := result.Info
	f.OS, f.Kernel, f.Cgroup = info.OperatingSystem, info.KernelVersion, info.CgroupVersion
	f.Driver, f.Warnings, f.Root = info.Driver, info.Warnings, info.DockerRootDir
}

// look reads what Linux says of itself below root.
func (f *Facts) look(root string) {
	if _, err := os.Stat(filepath.Join(root, "proc/version")); err != nil {
		return // the engine is in a virtual machine, and this is its host
	}
	if f.Root != "" {
		f.Free = free(filepath.Join(root, f.Root))
	}
	f.NFTables = hasNFTables(root)
	data, err := os.ReadFile(filepath.Join(root, "proc/net/if_inet6"))
	six := err == nil && len(bytes.TrimSpace(data)) > 0
	f.IPv6 = &six
	for _, name := range []string{"proc/net/tcp", "proc/net/tcp6"} {
		f.Plain = append(f.Plain, listening(filepath.Join(root, name))...)
	}
}

// hasNFTables is nil where this kernel does not say.
func hasNFTables(root string) *bool {
	yes, no := true, false
	if _, err := os.Stat(filepath.Join(root, "sys/module/nf_tables")); err == nil {
		return &yes
	}
	release, err := os.ReadFile(filepath.Join(root, "proc/sys/kernel/osrelease"))
	if err != nil {
		return nil
	}
	dir := filepath.Join(root, "lib/modules", strings.TrimSpace(string(release)))
	for _, name := range []string{"modules.builtin", "modules.dep"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil
		}
		if bytes.Contains(data, []byte("/nf_tables.ko")) {
			return &yes
		}
	}
	return &no
}

const (
	plainPort = 0x0947 // 2375
	listen    = "0A"   // the state in /proc/net/tcp
)

// listening are the addresses on which port 2375 waits for connections.
func listening(file string) (addrs []string) {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[3] != listen {
			continue
		}
		text, port, _ := strings.Cut(fields[1], ":")
		if port != fmt.Sprintf("%04X", plainPort) {
			continue
		}
		if addr, ok := kernelAddr(text); ok {
			addrs = append(addrs, netip.AddrPortFrom(addr, plainPort).String())
		}
	}
	return addrs
}

// kernelAddr reads an address as /proc/net has it: words in host byte order.
func kernelAddr(text string) (netip.Addr, bool) {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return netip.Addr{}, false
	}
	for i := 0; i+4 <= len(raw); i += 4 {
		slices.Reverse(raw[i : i+4]) // every machine that Docker runs on is little endian
	}
	addr, ok := netip.AddrFromSlice(raw)
	return addr.Unmap(), ok
}

// checkConfig finds a Docker configuration that can't be read.
func checkConfig() error {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil
		}
		dir = filepath.Join(home, ".docker")
	}
	path := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the Docker configuration: %w", err)
	}
	if !json.Valid(data) {
		return fmt.Errorf("reading the Docker configuration: %s is not JSON", path)
	}
	return nil
}
