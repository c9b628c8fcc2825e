// Package deps tests who may import whom. The rules are in DESIGN terms: a
// host program, a caged program, and three leaf packages that they share.
package deps

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/buildcage/buildcage"

// rule forbids the packages from, but not those of exempt, to import the
// packages to, but for those of except. A pattern covers a package and
// everything below it; "" covers this module.
type rule struct {
	name   string
	from   []string
	exempt []string
	to     []string
	except []string
	deep   bool // what is imported indirectly counts, too; tests do not
	why    string
}

func rules() []rule {
	caged := []string{"cmd/caged", "internal/cage"}
	shared := []string{"internal/policy", "internal/event", "internal/contract"}
	return []rule{
		{
			name: "host does not import cage", from: []string{""}, exempt: slices.Concat(caged, shared, []string{"test", "bench"}), to: caged,
			why: "the cage side only runs on Linux as PID 1; what both need is in policy, event or contract",
		},
		{
			name: "cage does not import host", from: caged, to: []string{""}, except: slices.Concat(caged, shared),
			why: "what faces hostile bytes stays small; what both need is in policy, event or contract",
		},
		{
			name: "policy is a leaf", from: []string{"internal/policy"}, to: []string{""}, except: []string{"internal/policy"},
			why: "the matcher decides and touches nothing, so that host and cage cannot disagree",
		},
		{
			name: "event imports policy at most", from: []string{"internal/event"}, to: []string{""}, except: []string{"internal/event", "internal/policy"},
			why: "the order is policy, event, contract; a cycle of meaning starts with the first exception",
		},
		{
			name: "contract imports policy and event at most", from: []string{"internal/contract"}, to: []string{""},
			except: []string{"internal/contract", "internal/event", "internal/policy"},
			why:    "a contract that needs an implementation is not one",
		},
		{
			name: "one program, one entry", from: []string{""}, exempt: []string{"cmd", "internal/cli"},
			to:  []string{"cmd", "internal/cli"},
			why: "commands turn flags into options and errors into exit codes; nothing builds on them",
		},
		{
			name: "caged stays small", from: caged, deep: true,
			to: []string{
				"github.com/spf13/cobra", "github.com/charmbracelet", "go.yaml.in/yaml", "gopkg.in/yaml.v2", "gopkg.in/yaml.v3",
				"github.com/docker/buildx", "github.com/docker/cli", "github.com/docker/docker", "github.com/moby/moby/client",
			},
			why: "every line linked into caged runs beside hostile builds with CAP_SYS_ADMIN; it has no commands, no terminal, no configuration files and no engine",
		},
	}
}

// graph maps a package to what it imports.
type graph map[string]node

type node struct {
	Imports, TestImports, XTestImports []string
}

// violations returns "importer → imported" for every import that r forbids.
func (r rule) violations(g graph) []string {
	var found []string
	for pkg, n := range g {
		if !within(pkg, r.from) || within(pkg, r.exempt) {
			continue
		}
		imports := slices.Concat(n.Imports, n.TestImports, n.XTestImports)
		if r.deep {
			imports = g.closure(pkg)
		}
		for _, imp := range imports {
			if within(imp, r.to) && !within(imp, r.except) {
				found = append(found, pkg+" → "+imp)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// within reports whether pkg is one of the patterns or below one. Patterns
// without a dot in their first element belong to this module.
func within(pkg string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if first, _, _ := strings.Cut(p, "/"); !strings.Contains(first, ".") {
			p = strings.TrimSuffix(module+"/"+p, "/")
		}
		return pkg == p || strings.HasPrefix(pkg, p+"/")
	})
}

// closure returns all that is linked into a program with pkg.
func (g graph) closure(pkg string) []string {
	seen := map[string]bool{pkg: true}
	queue := []string{pkg}
	for len(queue) > 0 {
		for _, imp := range g[queue[0]].Imports {
			if !seen[imp] {
				seen[imp] = true
				queue = append(queue, imp)
			}
		}
		queue = queue[1:]
	}
	delete(seen, pkg)
	var all []string
	for p := range seen {
		all = append(all, p)
	}
	return all
}

func TestImports(t *testing.T) {
	g := load(t)
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			for _, v := range r.violations(g) {
				t.Errorf("%s\n\treason for the rule: %s", v, r.why)
			}
		})
	}
}

// load asks go for the imports of this module and of everything it uses.
func load(t *testing.T) graph {
	t.Helper()
	touch(t)
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Imports,TestImports,XTestImports", module+"/...")
	cmd.Env = append(cmd.Environ(), "GOOS=linux")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g := make(graph)
	for dec := json.NewDecoder(out); ; {
		var p struct {
			ImportPath string
			node
		}
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		g[p.ImportPath] = p.node
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(fmt.Errorf("running go list: %w\n%s", err, &stderr))
	}
	if len(g) < 10 {
		t.Fatalf("go list found %d packages", len(g))
	}
	return g
}

// touch lists the source tree, so that Go does not answer with a cached result
// after a change that only the go command below would see.
func touch(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"../../cmd", "../../embed", "../../internal"} {
		err := filepath.WalkDir(dir, func(_ string, _ fs.DirEntry, err error) error { return err })
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Each rule finds the import that it is there for.
func TestRulesFind(t *testing.T) {
	m := module + "/"
	g := graph{
		m + "internal/runner":     {Imports: []string{"fmt", m + "internal/cage/proxy"}},
		m + "internal/cage/proxy": {Imports: []string{m + "internal/policy", "example.com/middle"}, TestImports: []string{m + "internal/report"}},
		m + "internal/policy":     {Imports: []string{"net/netip"}, XTestImports: []string{m + "internal/policy", m + "internal/event"}},
		m + "internal/event":      {Imports: []string{m + "internal/policy", m + "internal/contract"}},
		m + "internal/contract":   {Imports: []string{m + "internal/event", m + "internal/docker"}},
		m + "internal/report":     {Imports: []string{m + "internal/cli"}},
		m + "cmd/buildcage":       {Imports: []string{m + "internal/cli"}},
		"example.com/middle":      {Imports: []string{"github.com/moby/moby/client"}},
	}
	want := map[string][]string{
		"host does not import cage":                 {m + "internal/runner → " + m + "internal/cage/proxy"},
		"cage does not import host":                 {m + "internal/cage/proxy → " + m + "internal/report"},
		"policy is a leaf":                          {m + "internal/policy → " + m + "internal/event"},
		"event imports policy at most":              {m + "internal/event → " + m + "internal/contract"},
		"contract imports policy and event at most": {m + "internal/contract → " + m + "internal/docker"},
		"one program, one entry":                    {m + "internal/report → " + m + "internal/cli"},
		"caged stays small":                         {m + "internal/cage/proxy → github.com/moby/moby/client"},
	}
	got := make(map[string][]string)
	for _, r := range rules() {
		got[r.name] = r.violations(g)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
}
