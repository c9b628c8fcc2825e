// Package contract holds what the host side and the cage side of buildcage
// must agree on: the boot configuration, paths, addresses, ports and labels.
// Both sides import it; it imports nothing but policy.
package contract

import (
	"net/netip"
	"time"

	"github.com/buildcage/buildcage/internal/policy"
)

// Paths inside the cage container.
const (
	// ControlSocket is where caged answers its own multi-call commands
	// (events, seal, the runtime wrapper). Steps have no path to it.
	ControlSocket = "/run/buildcage/control.sock"
	// BuildKitSocket is stock buildkitd's listener.
	BuildKitSocket = "/run/buildkit/buildkitd.sock"
	// APISocket is the front door before it: what dial-stdio connects to.
	APISocket = "/run/buildcage/buildkit.sock"
	// JournalFile is the event record of the running cage (tmpfs).
	JournalFile = "/run/buildcage/events.jsonl"
	// StateDir is the mount point of the state volume.
	StateDir = "/var/lib/buildkit"
	// EvidenceDir, in StateDir, holds what is known of the steps in the cache.
	EvidenceDir = "buildcage-evidence"
	// CABundle is the CA bundle that BuildKit uses: the image's own and
	// the extra certificates handed in at start.
	CABundle = "/run/buildcage/ca.pem"
	// ImageCABundle is the bundle that the image carries.
	ImageCABundle = "/etc/ssl/certs/ca-certificates.crt"
	// BootFile, on the state volume, is the boot configuration of a cage that stays.
	BootFile = StateDir + "/buildcage-boot.json"
	// BuildsDir holds the front doors of registered builds.
	BuildsDir = "/run/buildcage/builds"
	// RecordsDir, on the state volume, holds the records of registered builds:
	// they are many, and the file system of a container is memory.
	RecordsDir = StateDir + "/buildcage-records"
	// BinDir holds caged, buildkitd, runc and the CNI plugins.
	BinDir = "/bin"
)

// Names of the multi-call binary: argv[0] or the first argument.
const (
	CommandDialStdio = "dial-stdio" // stdin/stdout ⇄ APISocket
	CommandEvents    = "events"     // journal records on stdout until the end record; --from N
	CommandSeal      = "seal"       // drain, write the end record, exit 0
	CommandRuntime   = "buildkit-runc"
	CommandStay      = "stay"      // PID 1 of a cage that stays: reads BootFile instead of its standard input
	CommandRegister  = "register"  // a Registration on stdin, a Lease on stdout; the end of stdin ends the build
	CommandInventory = "inventory" // an Inventory on stdout
	// FlagBuild, with a Lease's token, makes dial-stdio, events and seal speak of
	// a registered build instead of the cage's own.
	FlagBuild = "--build"
)

// ApartPrefix begins the cgroup of steps that a build has for itself.
const ApartPrefix = "buildcage-apart-"

// GitDir is where git looks for programs of its own. The commands below are in
// it: the multi-call binary again.
const (
	GitDir              = "/libexec/git-core"
	CommandGitHTTP      = "git-remote-http"
	CommandGitHTTPS     = "git-remote-https"
	CommandGitSubmodule = "git-submodule"
	CommandGitRun       = "git-run" // where git looks for a shell
)

// Network plan of the cage. Fake addresses name hosts, step addresses name steps.
var (
	FakeNet4 = netip.MustParsePrefix("198.18.0.0/16")
	FakeNet6 = netip.MustParsePrefix("fd62:7569:6c64:18::/64")
	StepNet4 = netip.MustParsePrefix("198.19.0.0/16")
	StepNet6 = netip.MustParsePrefix("fd62:7569:6c64:19::/64")
	// Listen4 and Listen6 are put on the loopback interface; proxy and
	// nameserver listen there and nowhere else. They are never handed out
	// as fake addresses.
	Listen4 = netip.MustParseAddr("198.18.0.1")
	Listen6 = netip.MustParseAddr("fd62:7569:6c64:18::1")
)

const (
	ProxyPort      = 15001
	NameserverPort = 53
	// ProxyMark is the SO_MARK on every socket that caged itself opens
	// towards the outside; the firewall lets only these out.
	ProxyMark = 0x6263
	// NFLogGroup is where the firewall logs what it refuses.
	NFLogGroup = 98
)

// Labels on everything that the host side creates in the engine.
const (
	Label        = "com.buildcage"         // "1" on containers, volumes, images
	LabelRun     = "com.buildcage.run"     // run id
	LabelSlot    = "com.buildcage.slot"    // slot number as text
	LabelVersion = "com.buildcage.version" // CLI version
	LabelName    = "com.buildcage.name"    // of a cage that stays
	LabelMode    = "com.buildcage.mode"    // its own policy's
	LabelPolicy  = "com.buildcage.policy"  // digest of that
)

// Boot is the configuration that the host writes as one JSON line to the
// standard input of PID 1. For a temporary cage, end of file on that stream
// means that the client is gone: the cage stops by itself.
type Boot struct {
	Version int         `json:"version"` // BootVersion
	RunID   string      `json:"run_id"`
	CLI     string      `json:"cli"` // version of the host program
	Linger  bool        `json:"linger,omitempty"`
	Debug   bool        `json:"debug,omitempty"`
	Policy  policy.Spec `json:"policy"`
	// ExtraCA is PEM, appended to the image's bundle.
	ExtraCA string `json:"extra_ca,omitempty"`
	// Guard lists further addresses that are never dialled: the engine's
	// gateways and other addresses that the host knows of.
	Guard []netip.Prefix `json:"guard,omitempty"`
	// MaxParallelism limits BuildKit's concurrent steps; 0 is BuildKit's default.
	MaxParallelism int `json:"max_parallelism,omitempty"`
	// Resolvers replace the container's own upstream resolvers (ip:port); empty: /etc/resolv.conf.
	Resolvers []netip.AddrPort `json:"resolvers,omitempty"`
	// Proxy is asked to connect to what is allowed; nil: the cage connects itself.
	Proxy *Proxy `json:"proxy,omitempty"`
	// Idle is how long a cage that stays goes on without a build; 0: forever.
	Idle time.Duration `json:"idle,omitempty"`
	// CacheMax is how many bytes of BuildKit's cache are kept; 0: BuildKit's default.
	CacheMax int64 `json:"cache_max,omitempty"`
}

// Proxy is a proxy of the company's in front of the network. It is asked with
// CONNECT and resolves the names.
type Proxy struct {
	URL     string `json:"url"`                // http://[user:password@]host:port
	NoProxy string `json:"no_proxy,omitempty"` // what is connected to directly, as in NO_PROXY
}

// BootVersion is the version of Boot that this program speaks.
const BootVersion = 1

// Status is one JSON line on the standard output of PID 1. Diagnostics (slog)
// go to standard error.
type Status struct {
	State State  `json:"state"`
	Error string `json:"error,omitempty"` // with StateFailed: one line
	Hint  string `json:"hint,omitempty"`
	// BuildKit is the version that buildkitd reports, with StateReady.
	BuildKit string    `json:"buildkit,omitempty"`
	Time     time.Time `json:"ts"`
}

type State string

const (
	StateStarting State = "starting" // the firewall is in force, BuildKit starts: a session may begin
	StateReady    State = "ready"    // BuildKit answers
	StateFailed   State = "failed"   // the cage is going down; Error says why
	StateStopped  State = "stopped"  // orderly stop
)

// Exit codes of PID 1.
const (
	ExitOK     = 0
	ExitFailed = 125
	// ExitStopped is a cage that stays and was told to stop: when its engine
	// stops, that starts it again later.
	ExitStopped = 143
)
