package process

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRedact(t *testing.T) {
	// Written in two parts, so that no scanner takes them for what they look like.
	github, npm := "gh"+"p_16C7e42F292c6912E7710c838347Ae178B4a", "np"+"m_rgQBtXvLmZ0cPqWsYdKfHjUiOeNaTb12Cd34"
	aws, jwt := "AKI"+"AIOSFODNN7EXAMPLE", "ey"+"JhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVPmB92K27uhbUJU1p1r"
	for _, tc := range []struct{ args, want []string }{
		{[]string{"curl", "--token", "abc", "x"}, []string{"curl", "--token", "***", "x"}},
		{[]string{"x", "--password=hunter 2"}, []string{"x", "--password=***"}},
		{[]string{"x", "--password", "--verbose"}, []string{"x", "--password", "--verbose"}},
		{[]string{"x", "-password", "-hunter2"}, []string{"x", "-password", "***"}},
		{[]string{"env", "NPM_TOKEN=a b\nc", "npm", "ci"}, []string{"env", "NPM_TOKEN=***", "npm", "ci"}},
		{[]string{"env", "my_secret=x", "AUTH=y", "Api_Key=z", "HOME=/root"}, []string{"env", "my_secret=***", "AUTH=***", "Api_Key=***", "HOME=/root"}},
		{[]string{"npm", "--//npm.example.com/:_authToken=abc"}, []string{"npm", "--//npm.example.com/:_authToken=***"}},
		{[]string{"git", "clone", "https://me:pw@git.example.com/a.git"}, []string{"git", "clone", "https://***@git.example.com/a.git"}},
		{[]string{"git", "clone", "https://oauth2:p@w@git.example.com/a@b"}, []string{"git", "clone", "https://***@git.example.com/a@b"}},
		{[]string{"git", "clone", "git@git.example.com:a/b"}, []string{"git", "clone", "git@git.example.com:a/b"}},
		{[]string{"curl", "https://example.com/?a=1&access_token=abc&b=2"}, []string{"curl", "https://example.com/?a=1&access_token=***&b=2"}},
		{[]string{"curl", "-H", "Authorization: Bearer abc def"}, []string{"curl", "-H", "Authorization: ***"}},
		{[]string{"curl", "-HX-Api-Key: abc"}, []string{"curl", "-HX-Api-Key: ***"}},
		{[]string{"curl", "-H", "Accept: text/html"}, []string{"curl", "-H", "Accept: text/html"}},
		{[]string{"curl", "-u", "me:pw", "-ume:pw"}, []string{"curl", "-u", "me:***", "-ume:***"}},
		{[]string{"mysql", "-phunter2", "-P3306"}, []string{"mysql", "-p***", "-P3306"}},
		{[]string{"/usr/bin/sshpass", "-p", "x", "ssh", "h"}, []string{"/usr/bin/sshpass", "-p", "***", "ssh", "h"}},
		{[]string{"mkdir", "-p", "/a/b"}, []string{"mkdir", "-p", "/a/b"}},
		{[]string{"sh", "-c", `curl -H "Authorization: Bearer abc.def" https://u:p@h/ && TOKEN='a b' run --secret "c d" --x y`},
			[]string{"sh", "-c", `curl -H "Authorization: ***" https://***@h/ && TOKEN=*** run --secret *** --x y`}},
		{[]string{"x", `{"password": "hunter2", "n": 1}`}, []string{"x", `{"password": ***, "n": 1}`}},
		{[]string{"x", github, "a" + github, npm, aws, jwt}, []string{"x", "***", "***", "***", "***", "***"}},
		{[]string{"x", "see " + github + "."}, []string{"x", "see ***"}},
		{[]string{"x", "-----BEGIN KEY-----\nabc\n-----END KEY----- y"}, []string{"x", "*** y"}},
		{[]string{"x", "-----BEGIN KEY-----\nabc"}, []string{"x", "***"}},
		{[]string{"x", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}, []string{"x", "***"}},
		{[]string{"x", "9f86d081884c7d659a2feaa0c55ad015"}, []string{"x", "***"}},
		{[]string{"x", "123e4567-e89b-12d3-a456-426614174000"}, []string{"x", "***"}},
		{[]string{"cc", "x86_64-unknown-linux-gnu", "/usr/lib/node_modules/npm/bin/npm-cli.js", "linux-image-6.1.0-18-amd64", "-DCMAKE_BUILD_TYPE=Release"},
			[]string{"cc", "x86_64-unknown-linux-gnu", "/usr/lib/node_modules/npm/bin/npm-cli.js", "linux-image-6.1.0-18-amd64", "-DCMAKE_BUILD_TYPE=Release"}},
		{[]string{"node", "/app/node_modules/@scope/package/scripts/postinstall.js"}, []string{"node", "/app/node_modules/@scope/package/scripts/postinstall.js"}},
		{[]string{"x", "MY_TO\u212aEN=a", "--\u017fecret=b"}, []string{"x", "MY_TO\u212aEN=***", "--\u017fecret=***"}},
		{[]string{""}, []string{""}},
		{nil, []string{}},
	} {
		if diff := cmp.Diff(tc.want, Redact(tc.args)); diff != "" {
			t.Error(diff)
		}
	}
}

func FuzzRedact(f *testing.F) {
	for _, s := range []string{"a", "--token\x00x", "-p\x00x", "k=v", "https://a@b@c", "Authorization:", "key=;key=;", "\xff=\x00", "-----BEGIN", "a:b\x00-u\x00c:d"} {
		f.Add(s, "hunter2000")
	}
	f.Fuzz(func(t *testing.T, line, secret string) {
		args := strings.Split(line, "\x00")
		got := Redact(args)
		if len(got) != len(args) {
			t.Fatalf("%d arguments became %d", len(args), len(got))
		}
		for i := range got {
			if len(got[i]) > 3*len(args[i])+3 {
				t.Errorf("%q grew to %q", args[i], got[i])
			}
		}
		if len(bound(got)) > maxArgs {
			t.Error("too many arguments")
		}
		// A value is gone wherever its name stands, whatever it holds.
		if len(secret) < 4 || strings.ContainsAny(secret, "*\x00") || strings.HasPrefix(secret, "--") {
			return
		}
		for _, form := range [][]string{{"x", "--api-key", secret}, {"x", "--api-key=" + secret}, {"env", "MY_PASSWORD=" + secret}} {
			if out := strings.Join(Redact(form), "\n"); strings.Contains(out, secret) && !strings.Contains("--api-key=MY_PASSWORD=", secret) {
				t.Errorf("%q became %q", form, out)
			}
		}
	})
}

func TestLabel(t *testing.T) {
	for _, tc := range []struct {
		exe, args, want string
	}{
		{"/usr/bin/node", "node|postinstall.js", "node postinstall.js"},
		{"/usr/bin/node", "node|/app/node_modules/x/install.js", "node install.js"},
		{"/usr/bin/node", "npm ci", "npm ci (node)"},
		{"/usr/bin/python3.11", "python3|-m|pip|install", "python3"},
		{"/usr/bin/python3.11", "/usr/bin/python3|/usr/bin/pip|install|x", "python3 pip install"},
		{"/bin/busybox", "wget|-q|http://example.com", "wget"},
		{"/usr/bin/dash", "/bin/sh|-c|npm ci", "sh"},
		{"/usr/bin/dash", "-sh", "sh"},
		{"/tmp/evil", "npm ci", "npm ci (evil)"},
		{"/tmp/evil (deleted)", "/usr/bin/npm|ci", "npm ci (evil)"},
		{"/usr/bin/git", "git|clone|https://git.example.com/a", "git clone"},
		{"/usr/local/go/bin/go", "go|mod|download", "go mod download"},
		{"/memfd:x (deleted)", "", "memfd:x"},
	} {
		var args []string
		if tc.args != "" {
			args = strings.Split(tc.args, "|")
		}
		if got := label(tc.exe, args); got != tc.want {
			t.Errorf("%s %q: %q, want %q", tc.exe, tc.args, got, tc.want)
		}
	}
}

func TestReadingIsBounded(t *testing.T) {
	long := strings.Repeat("x\x00", maxCmdline)
	r := newReading("/bin/x", long[:maxCmdline])
	if len(r.args) > maxArgs || len(r.label) > maxLabel {
		t.Errorf("%d arguments, label %q", len(r.args), r.label)
	}
	r = newReading("/bin/x", ("x\x00" + strings.Repeat("\x1b\\", maxCmdline))[:maxCmdline])
	if total := len(strings.Join(r.args, "")); total > maxBytes || strings.Contains(strings.Join(r.args, ""), "\x1b") {
		t.Errorf("%d bytes", total)
	}
	// A secret that the limit cuts in two is not recognised: it is left out.
	r = newReading("/bin/x", ("x\x00" + strings.Repeat("y", maxCmdline-20) + "\x00--token=abcdefghi")[:maxCmdline])
	if strings.Contains(strings.Join(r.args, ""), "abc") {
		t.Errorf("%q", r.args)
	}
}
