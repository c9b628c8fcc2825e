package config

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/policy"
)

func TestFormat(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"as it should be": {"version: 1\nallowed_https_rules:\n  - pypi.org\n", ""},
		"order": {
			"allowed_https_rules: [pypi.org]\nmode: audit\nversion: 1\n",
			"version: 1\nmode: audit\nallowed_https_rules:\n  - pypi.org\n",
		},
		"indent": {
			"version: 1\nallowed_https_rules:\n- pypi.org\nsteps:\n-   run: x\n    network: none\n",
			"version: 1\nallowed_https_rules:\n  - pypi.org\nsteps:\n  - run: x\n    network: none\n",
		},
		"quotes": {
			"version: 1\nallowed_https_rules: ['pypi.org', '*.a.test', \"~a\\\\.test:443\", \"x.test:{80,443}\"]\nallowed_ip_rules: ['192.0.2.1:443', '[::1]:1']\n",
			"version: 1\nallowed_https_rules:\n  - pypi.org\n  - \"*.a.test\"\n  - '~a\\.test:443'\n  - \"x.test:{80,443}\"\nallowed_ip_rules:\n  - \"192.0.2.1:443\"\n  - \"[::1]:1\"\n",
		},
		"a string of rules": {
			"version: 1\nallowed_http_rules: >-\n  a.test\n  b.test\n\nallowed_tcp_rules: # c\n",
			"version: 1\nallowed_http_rules:\n  - a.test\n  - b.test\n\nallowed_tcp_rules: [] # c\n",
		},
		"comments": {
			"# the file\n\n# rules\nallowed_https_rules: # why\n  # first\n  - a.test # one\n\n\n  - b.test\n  # - old.test\n\n# the version\nversion: 1 # yes\n# the end\n",
			"# the file\n\n# the version\nversion: 1 # yes\n# rules\nallowed_https_rules: # why\n  # first\n  - a.test # one\n\n  - b.test\n  # - old.test\n# the end\n",
		},
		"an entry": {
			"version: 1\nsteps:\n  # npm\n  - max_upload: 1MiB # little\n    # which\n    run: 'npm ci*'   # glob\n    secrets: True\n    lines: 3-7\n  # - run: old\nbuilder: {}\n",
			"version: 1\nsteps:\n  # npm\n  # which\n  - run: \"npm ci*\" # glob\n    lines: 3-7\n    secrets: true\n    max_upload: 1MiB # little\n  # - run: old\nbuilder: {}\n",
		},
		"flow with comments": {
			"{version: 1, # a\n # b\n builder: {allowed_https_rules: [a.test, # c\n  b.test]}, # d\n check: {accept: every-name}}\n",
			"version: 1 # a\n# b\nbuilder: # c\n  allowed_https_rules:\n    - a.test\n    - b.test # d\ncheck:\n  accept: every-name\n",
		},
		"line ends": {"version: 1\r\nmode:   audit\r\n", "version: 1\r\nmode: audit\r\n"},
		"empty things": {
			"version: 1\nsteps:\nallow_private: []\nknown_blocked_rules: ''\ncheck:\n",
			"version: 1\nknown_blocked_rules: []\nallow_private: []\nsteps: []\ncheck: {}\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Format("f", []byte(tc.in))
			if err != nil {
				t.Fatal(err)
			}
			want := tc.want
			if want == "" {
				want = tc.in
			}
			if diff := cmp.Diff(want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFormatExample(t *testing.T) {
	data, err := os.ReadFile("../../buildcage.yaml.example")
	if err != nil {
		t.Fatal(err)
	}
	out, err := Format("f", data)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(out), "#"); n != strings.Count(string(data), "#") {
		t.Errorf("%d comments, want %d:\n%s", n, strings.Count(string(data), "#"), out)
	}
}

func TestFormatRefuses(t *testing.T) {
	for _, text := range []string{"", "version: 2\n", "version: 1\nallowed_https_rules: [a..b]\n"} {
		if _, err := Format("f", []byte(text)); err == nil {
			t.Errorf("%q is formatted", text)
		}
	}
}

// FuzzFormat: a valid file can be formatted, means the same, keeps its
// comments (Format looks at both itself), and does not change again.
func FuzzFormat(f *testing.F) {
	data, err := os.ReadFile("../../buildcage.yaml.example")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(data))
	f.Add("{version: 1, # a\n # b\n builder: {allowed_https_rules: [a.test, # c\n  b.test]}, # d\n check: {accept: every-name}}\n")
	f.Add("# x\nversion: 1\nsteps:\n    # deep\n  - max_upload: 1MiB # little\n    # which\n    run: |\n      a # b\n\n      c\n  -   # d\n    run: x\n     # e\n# f")
	f.Add("---\n# a\n\nbuilder:\n  # b\n  allowed_tcp_rules: >- # c\n    a.test:1\n    b.test:2\n   # d\nversion: 1\n...\n# e\n")
	f.Fuzz(func(t *testing.T, text string) {
		before, err := Load("f", []byte(text))
		if err != nil {
			return
		}
		once, err := Format("f", []byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		twice, err := Format("f", once)
		if err != nil {
			t.Fatalf("the second time: %v\n%s", err, once)
		}
		if diff := cmp.Diff(string(once), string(twice)); diff != "" {
			t.Fatalf("not idempotent (-once +twice):\n%s", diff)
		}
		if digest(t, before) != digest(t, loaded(t, once)) {
			t.Fatalf("means something else:\n%s", once)
		}
	})
}

func loaded(t *testing.T, data []byte) *Config {
	t.Helper()
	c, err := Load("f", data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func digest(t *testing.T, c *Config) string {
	t.Helper()
	p, err := policy.Compile(c.Spec)
	if err != nil {
		t.Fatal(err)
	}
	return p.Digest()
}

// TestFormatKeepsComments puts a comment in front of and behind every line.
func TestFormatKeepsComments(t *testing.T) {
	data, err := os.ReadFile("../../buildcage.yaml.example")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(data), "\n")
	for i := range lines {
		for _, add := range []string{"# here\n", "  # here\n", "\n    # here\n\n", "\n\n\n # here\n"} {
			text := strings.Join(lines[:i], "") + add + strings.Join(lines[i:], "")
			once, err := Format("f", []byte(text))
			if err != nil {
				t.Fatalf("line %d, %q: %v", i, add, err)
			}
			twice, err := Format("f", once)
			if err != nil || string(once) != string(twice) {
				t.Fatalf("line %d, %q: %v\n%s", i, add, err, cmp.Diff(string(once), string(twice)))
			}
		}
	}
}
