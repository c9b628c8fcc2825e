// Package doctor says whether a cage can run here, and what to do where it
// can't. Gather collects facts, Diagnose judges them and touches nothing.
package doctor

import (
	"fmt"
	"net/netip"
	"net/url"
	"runtime"
	"strings"

	"github.com/buildcage/buildcage/internal/docker"
)

// Status of a finding.
type Status string

const (
	OK      Status = "ok"
	Warning Status = "warning"
	Problem Status = "problem"
	Unknown Status = "unknown" // it could not be looked at
)

// Finding is the answer to one question.
type Finding struct {
	Name    string `json:"name"`
	Status  Status `json:"status"`
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
}

// Facts are what there is to judge. A nil pointer: not known.
type Facts struct {
	Host      string // of the engine, as the client dials it
	TLS       bool   // the client speaks TLS to it
	EngineErr error  // why it can't be used
	Engine    docker.Facts

	OS, Kernel string
	Cgroup     string // 1 or 2
	Driver     string // of storage
	Warnings   []string
	Root       string // where the engine keeps its data

	Local    bool // the engine is on this machine
	Free     *uint64
	Plain    []string // addresses on which the engine's plain TCP port listens
	NFTables *bool    // the module is loaded or built in
	IPv6     *bool

	ImageArch string
	ImageErr  error
	Cage      Trial

	Builder   string // BUILDX_BUILDER
	ConfigErr error  // of the Docker configuration
}

// Trial is what came of starting a cage.
type Trial struct {
	Tried bool
	Err   error
}

// Diagnose judges facts, in the order in which a person repairs things.
func Diagnose(f *Facts) []Finding {
	all := []Finding{f.engine()}
	if f.EngineErr == nil {
		all = append(all, f.image(), f.kernel(), f.cgroup(), f.nftables(), f.ipv6(), f.disk(), f.cage())
	} else {
		all = append(all, f.image())
	}
	return append(all, f.exposed(), f.config())
}

// Failed reports whether anything is a problem.
func Failed(all []Finding) bool {
	for _, f := range all {
		if f.Status == Problem {
			return true
		}
	}
	return false
}

func (f *Facts) engine() Finding {
	if f.EngineErr != nil {
		return Finding{"engine", Problem, f.EngineErr.Error(), hint(f.EngineErr, "start Docker, or choose an engine with DOCKER_HOST or docker context use")}
	}
	return Finding{"engine", OK, fmt.Sprintf("Docker Engine %s (API %s) at %s", f.Engine.Version, f.Engine.APIVersion, f.Host), ""}
}

func hint(err error, otherwise string) string {
	if h, ok := err.(interface{ Hint() string }); ok && h.Hint() != "" {
		return h.Hint()
	}
	return otherwise
}

func (f *Facts) image() Finding {
	switch {
	case f.ImageErr != nil:
		return Finding{"image", Problem, f.ImageErr.Error(), hint(f.ImageErr, "install a released binary")}
	case f.EngineErr == nil && f.ImageArch != f.Engine.Arch:
		return Finding{"image", Problem, fmt.Sprintf("the engine is %s, this program carries a cage for %s", f.Engine.Arch, f.ImageArch),
			"install the release for " + runtime.GOOS + "/" + f.Engine.Arch + ", or use an engine on " + f.ImageArch}
	}
	return Finding{"image", OK, "the program carries a cage for " + f.ImageArch, ""}
}

func (f *Facts) kernel() Finding {
	var major, minor int
	if _, err := fmt.Sscanf(f.Kernel, "%d.%d", &major, &minor); err != nil {
		return Finding{"kernel", Unknown, "the engine does not say its kernel", "see uname -r where it runs; 5.4 or newer is needed"}
	}
	if major < 5 || major == 5 && minor < 4 {
		return Finding{"kernel", Warning, fmt.Sprintf("%s (%s) is older than what is tested", f.Kernel, f.OS), "use a kernel of 5.4 or newer"}
	}
	return Finding{"kernel", OK, fmt.Sprintf("%s (%s)", f.Kernel, f.OS), ""}
}

func (f *Facts) cgroup() Finding {
	switch f.Cgroup {
	case "1", "2":
		return Finding{"cgroup", OK, "version " + f.Cgroup, ""}
	}
	return Finding{"cgroup", Unknown, "the engine does not say its version of cgroups", "see docker info; 1 and 2 will do"}
}

func (f *Facts) nftables() Finding {
	const fix = "load the kernel module nf_tables where the engine runs: modprobe nf_tables"
	switch {
	case f.Cage.Tried && f.Cage.Err == nil:
		return Finding{"nftables", OK, "a cage has its firewall in force", ""}
	case f.NFTables == nil:
		return Finding{"nftables", Unknown, "only a cage can tell for an engine that is elsewhere", "run buildcage doctor without --quick"}
	case !*f.NFTables:
		return Finding{"nftables", Warning, "the module nf_tables is neither loaded nor built in", fix}
	}
	return Finding{"nftables", OK, "the kernel has it", ""}
}

func (f *Facts) ipv6() Finding {
	switch {
	case f.IPv6 == nil:
		return Finding{"ipv6", Unknown, "not known for an engine that is elsewhere", "nothing has to be done: a cage does without"}
	case !*f.IPv6:
		return Finding{"ipv6", OK, "the machine has none: a cage does without", ""}
	}
	return Finding{"ipv6", OK, "the machine has it, and a cage judges it like IPv4", ""}
}

const (
	littleSpace = 5 << 30
	noSpace     = 1 << 30
)

func (f *Facts) disk() Finding {
	const fix = "buildcage prune removes old caches, docker image prune old images"
	if f.Free == nil {
		return Finding{"disk", Unknown, "not known for an engine that is elsewhere", "see df where " + f.Root + " is"}
	}
	text := fmt.Sprintf("%.1f GB free for %s", float64(*f.Free)/1e9, f.Root)
	switch {
	case *f.Free < noSpace:
		return Finding{"disk", Problem, text, fix}
	case *f.Free < littleSpace:
		return Finding{"disk", Warning, text, fix}
	}
	return Finding{"disk", OK, text, ""}
}

func (f *Facts) cage() Finding {
	switch {
	case !f.Cage.Tried:
		return Finding{"cage", Unknown, "not tried", "run buildcage doctor without --quick"}
	case f.Cage.Err != nil:
		return Finding{"cage", Problem, "a cage does not start: " + f.Cage.Err.Error(), hint(f.Cage.Err, "run buildcage build --debug to see the cage's own words")}
	}
	return Finding{"cage", OK, "a cage starts, tries its own controls, and is gone again", ""}
}

// exposed: whoever reaches the engine's API is root on its machine.
func (f *Facts) exposed() Finding {
	const fix = "remove -H tcp://… and \"hosts\" from the engine's configuration; use ssh:// or TLS with client certificates"
	for _, w := range f.Warnings {
		if strings.Contains(w, "API is accessible on http") {
			return Finding{"exposed API", Problem, strings.TrimPrefix(w, "WARNING: "), fix}
		}
	}
	if len(f.Plain) > 0 {
		return Finding{"exposed API", Problem, "the engine's port for plain TCP is open on " + strings.Join(f.Plain, ", "), fix}
	}
	if u, err := url.Parse(f.Host); err == nil && (u.Scheme == "tcp" || u.Scheme == "http") && !f.TLS {
		status := Problem
		if addr, err := netip.ParseAddr(u.Hostname()); u.Hostname() == "localhost" || err == nil && addr.IsLoopback() {
			status = Warning
		}
		return Finding{"exposed API", status, "this program talks to " + f.Host + " without TLS", fix}
	}
	if f.EngineErr != nil {
		return Finding{"exposed API", Unknown, "no engine to ask", "start it and run this again"}
	}
	return Finding{"exposed API", OK, "the engine says nothing of plain TCP", ""}
}

func (f *Facts) config() Finding {
	switch {
	case f.ConfigErr != nil:
		return Finding{"docker config", Warning, f.ConfigErr.Error(), "correct the file; docker and buildcage read it"}
	case f.Builder != "":
		return Finding{"docker config", Warning, fmt.Sprintf("BUILDX_BUILDER is %q: docker buildx build goes there, outside of any cage that buildcage build makes", f.Builder),
			"unset BUILDX_BUILDER, unless it names a cage of buildcage up"}
	}
	return Finding{"docker config", OK, "nothing that is in the way", ""}
}
