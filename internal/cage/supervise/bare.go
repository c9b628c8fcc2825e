package supervise

import "github.com/buildcage/buildcage/internal/contract"

// Bare is Main for a cage that can't build: all that enforces and records, in
// a network namespace of any kind, and no BuildKit. Benchmarks measure it. The
// boot configuration names the resolvers.
func Bare() int { return start(bare, false) }

func bare(c *cage, config contract.Boot) []phase {
	p := &parts{cage: c, config: config, resolvers: config.Resolvers}
	return []phase{
		{"policy", p.compile},
		{"network", p.network},
		{"journal", p.openJournal},
		{"firewall", p.closeNetwork},
		{"nameserver", p.serveNames},
		{"proxy", p.serveProxy},
		{"control", p.serveControl},
		{"record", p.keepRecord},
	}
}
