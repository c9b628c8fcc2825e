package check_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/check"
	"github.com/buildcage/buildcage/internal/policy"
)

func run(policyText, dockerfile, lock string) []check.Finding {
	in := check.Input{Policy: check.File{Name: "p", Data: []byte("version: 1\n" + policyText)}}
	if dockerfile != "" {
		in.Dockerfile = check.File{Name: "D", Data: []byte(dockerfile)}
	}
	if lock != "" {
		in.Lock = check.File{Name: "L", Data: []byte("version: 1\n" + lock)}
	}
	return check.Run(in)
}

func codes(found []check.Finding) string {
	var list []string
	for _, f := range found {
		list = append(list, f.Code)
	}
	return strings.Join(list, " ")
}

func TestRun(t *testing.T) {
	for _, tc := range []struct{ name, policy, dockerfile, lock, want string }{
		{"nothing", "", "", "", ""},
		{"fine", "allowed_https_rules: [pypi.org]\n", "FROM scratch\nRUN x\n", "", ""},
		{"single label wildcard", "allowed_https_rules: ['*']\n", "", "", "every-name"},
		{"open top level domain", "allowed_https_rules: ['example.*']\n", "", "", "public-suffix"},
		{"company domain", "allowed_https_rules: ['**.corp.example.com', 'a?.example.com']\n", "", "", ""},
		{"unmanaged domain", "allowed_https_rules: ['*.internal']\n", "", "", "public-suffix"},
		{"below a shared one", "allowed_https_rules: ['*.project.github.io']\n", "", "", ""},
		{"open in known_blocked", "known_blocked_rules: ['*.com']\n", "", "", ""},
		{"regex with a port", "allowed_https_rules: ['~[a-z]+\\.net:(80|443)']\n", "", "", "public-suffix"},
		{"good regex", "allowed_https_rules: ['~(eu|us)-[0-9]+\\.example\\.net:443']\n", "", "", ""},
		{"network", "allowed_ip_rules: ['10.0.0.0/8:443', '128.0.0.0/1:443', '[2000::/3]:443']\n", "", "", "large-network large-network"},
		{"every port of an address", "allowed_ip_rules: ['192.0.2.1:*']\n", "", "", "every-port"},
		{"in an entry", "steps:\n  - run: x\n    allowed_tcp_rules: ['*.com:22']\n", "FROM a\nRUN x\n", "", "public-suffix"},
		{"in the builder", "builder:\n  allowed_https_rules: ['**']\n", "FROM a\n", "", "every-name"},
		{"other lists do not shadow", "allowed_https_rules: [a.test]\nallowed_http_rules: ['a.test:443']\n", "", "", ""},
		{"entries before", "steps:\n  - stage: d*\n    network: none\n  - run: x\n    stage: deps\n    network: none\n", "FROM a AS deps\nRUN x\n", "", "hidden-entry"},
		{"right order", "steps:\n  - run: x y\n    network: none\n  - run: x*\n    network: none\n", "FROM a\nRUN x y\nRUN x z\n", "", ""},
		{"by line", "steps:\n  - lines: 7\n    network: none\n", "FROM a\nRUN x\n", "", "unused-entry"},
		{"by secrets", "steps:\n  - secrets: true\n    network: none\n", "FROM a\nRUN --mount=type=secret,id=x x\n", "", ""},
		{"unknown shell", "steps:\n  - run: x\n    network: none\n", "FROM a\nSHELL [\"pwsh\", \"-Command\"]\nRUN y\n", "", ""},
		{"catch-all first", "steps:\n  - network: none\n  - run: x\n    network: none\n", "", "", "hidden-entry"},
		{"catch-all first, with a Dockerfile", "steps:\n  - network: none\n  - run: x\n    network: none\n", "FROM a\nRUN x\n", "", "hidden-entry"},
		{"an entry twice", "steps:\n  - run: x\n    network: none\n  - run: x\n    network: none\n", "FROM a\nRUN x\n", "", "duplicate-entry"},
		{"weak options", "", "FROM a\nRUN --security=insecure x\nFROM b\nRUN --network=host x\n", "", "weak-option weak-option"},
		{"broken Dockerfile", "", "FROM a\nRUNN x\n", "", "dockerfile"},
		{"weak options with a broken policy", "x: y\n", "FROM a\nRUN --network=host x\n", "", "weak-option invalid"},
		{"official frontend", "", "# syntax=docker/dockerfile:1.7-labs\nFROM a\n", "", ""},
		{"named frontend", "builder:\n  allowed_https_rules: [r.example.com, registry-1.docker.io, auth.docker.io]\n", "# syntax=r.example.com/f\nFROM a\n", "", ""},
		{"image of the registry", "builder:\n  allowed_tcp_rules: ['r.example.com:5000']\n", "FROM r.example.com:5000/a\n", "", ""},
		{"lock fits", "allowed_https_rules: [a.test]\n", "FROM a\nRUN x\n", "steps: [{run: x, reached: ['a.test:443 https']}]\n", ""},
		{"lock does not fit", "allowed_https_rules: [a.test]\n", "FROM a\nRUN x\n", "steps: [{run: x, reached: ['a.test:80 http']}, {run: y}]\n", "lock-refused lock-step"},
		{"lock of an entry", "allowed_https_rules: [a.test]\nsteps: [{run: x, network: none}]\n", "FROM a\nRUN x\n", "steps: [{run: x, reached: ['a.test:443 https']}]\n", "lock-refused"},
		{"lock is broken", "", "", "steps: [{run: x, reached: ['a.test']}]\n", "lock-invalid"},
		{"accepted", "allowed_https_rules: ['*.com', '*.net']\ncheck: {accept: ['public-suffix *.com']}\n", "", "", "public-suffix"},
		{"all accepted", "allowed_https_rules: ['*.com', '*.net']\ncheck: {accept: public-suffix}\n", "", "", ""},
		{"errors are not accepted", "allowed_https_rules: ['a..b']\ncheck: {accept: [invalid]}\n", "", "", "invalid"},
		{"unknown code", "check: {accept: [nonsense]}\n", "", "", "invalid"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found := run(tc.policy, tc.dockerfile, tc.lock)
			if got := codes(found); got != tc.want {
				t.Errorf("%q, want %q\n%+v", got, tc.want, found)
			}
			for _, f := range found {
				if f.Pos == "" || f.Message == "" || f.Hint == "" || f.Severity == "" {
					t.Errorf("not complete: %+v", f)
				}
			}
		})
	}
}

// TestOrder: as a person reads the files, lines as numbers.
func TestOrder(t *testing.T) {
	text := "allowed_https_rules:\n" + strings.Repeat("  - '*.com'\n", 12)
	var got []string
	for _, f := range run(text, "", "") {
		if f.Code == "public-suffix" {
			got = append(got, f.Pos)
		}
	}
	want := []string{"p:3:5", "p:4:5", "p:5:5", "p:6:5", "p:7:5", "p:8:5", "p:9:5", "p:10:5", "p:11:5", "p:12:5", "p:13:5", "p:14:5"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAcceptFlag(t *testing.T) {
	in := check.Input{
		Policy: check.File{Name: "p", Data: []byte("version: 1\nallowed_https_rules: ['**']\n")},
		Accept: []policy.Text{{Text: "every-name **", Pos: "--accept"}},
	}
	if found := check.Run(in); len(found) != 0 {
		t.Errorf("%+v", found)
	}
}
