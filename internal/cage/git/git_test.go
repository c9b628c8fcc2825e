package git

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/contract"
)

// program is the machine's own git with our programs around it.
func program(t *testing.T, in string) (p Program, out, errs *bytes.Buffer) {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	out, errs = new(bytes.Buffer), new(bytes.Buffer)
	return Program{In: strings.NewReader(in), Out: out, Err: errs, Git: git}, out, errs
}

// serve starts a server with TLS, whose certificate p trusts.
func serve(t *testing.T, p *Program, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	p.CA = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(p.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func line(text string) string { return fmt.Sprintf("%04x%s", headSize+len(text), text) }

const (
	advertisement = "application/x-git-upload-pack-advertisement"
	answer        = "application/x-git-upload-pack-result"
)

// A message of git's becomes a request with the configured header; the answer
// comes back packet by packet, with an end that git knows.
func TestStatelessConnect(t *testing.T) {
	request := line("command=ls-refs\n") + "0001" + line("peel\n") + "0000"
	p, out, errs := program(t, "capabilities\nstateless-connect git-upload-pack\n"+request)
	caps := line("version 2\n") + line("fetch\n") + "0000"
	s := serve(t, &p, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "basic eA==" || r.Header.Get("Git-Protocol") != "version=2" {
			t.Errorf("%s with %v", r.URL, r.Header)
		}
		body := new(bytes.Buffer)
		_, _ = body.ReadFrom(r.Body)
		switch r.URL.String() {
		case "/x.git/info/refs?service=git-upload-pack":
			w.Header().Set("Content-Type", advertisement)
			fmt.Fprint(w, line("# service=git-upload-pack\n")+"0000"+caps)
		case "/x.git/git-upload-pack":
			if body.String() != request {
				t.Errorf("request %q", body)
			}
			w.Header().Set("Content-Type", answer)
			fmt.Fprint(w, line("a ref\n")+"0000")
		default:
			t.Errorf("asked for %s", r.URL)
		}
	})
	t.Setenv("GIT_CONFIG_COUNT", "1")
	t.Setenv("GIT_CONFIG_KEY_0", "http."+s.URL+"/x.git.extraheader")
	t.Setenv("GIT_CONFIG_VALUE_0", "Authorization: basic eA==")
	if code := p.Run(context.Background(), contract.CommandGitHTTPS, []string{"origin", s.URL + "/x.git/"}); code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	want := "stateless-connect\nfetch\noption\nobject-format\n\n" + "\n" + caps + line("a ref\n") + "0000" + endPacket
	if out.String() != want {
		t.Errorf("git is told %q, want %q", out, want)
	}
}

// What a server does wrong ends the helper with an error, never with an answer
// that git could take for a whole one.
func TestBadServers(t *testing.T) {
	for name, c := range map[string]struct {
		serve http.HandlerFunc
		want  string
	}{
		"no repository": {func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, "returned error: 404"},
		"credentials":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, "authentication failed"},
		"web page":      {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, "does not speak git's smart protocol"},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", advertisement)
			fmt.Fprint(w, "0010version")
		}, "hung up"},
		"no length": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", advertisement)
			fmt.Fprint(w, "zzzzversion 2\n0000")
		}, `its length is "zzzz"`},
		"away from TLS": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://files.example.com/x.git"+discovery, http.StatusFound)
		}, "away from HTTPS"},
		"end packet": {func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				w.Header().Set("Content-Type", advertisement)
				fmt.Fprint(w, line("version 2\n")+"0000")
				return
			}
			w.Header().Set("Content-Type", answer)
			fmt.Fprint(w, line("half")+"0002")
		}, "only helpers send"},
		"redirected request": {func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				w.Header().Set("Content-Type", advertisement)
				fmt.Fprint(w, line("version 2\n")+"0000")
				return
			}
			http.Redirect(w, r, "https://files.example.com/", http.StatusTemporaryRedirect)
		}, "redirects a request with content"},
	} {
		t.Run(name, func(t *testing.T) {
			p, _, errs := program(t, "stateless-connect git-upload-pack\n"+line("command=fetch")+"0000")
			s := serve(t, &p, c.serve)
			if code := p.Run(context.Background(), contract.CommandGitHTTPS, []string{"origin", s.URL}); code != exitFatal {
				t.Errorf("exit code %d", code)
			}
			if !strings.HasPrefix(errs.String(), "fatal: ") || !strings.Contains(errs.String(), c.want) {
				t.Errorf("says %q, want %q", errs, c.want)
			}
		})
	}
}

// Credentials are for the host they were given for, and in no message.
func TestCredentialsStayWithTheirHost(t *testing.T) {
	p, _, errs := program(t, "stateless-connect git-upload-pack\n")
	other := httptest.NewTLSServer(nil)
	t.Cleanup(other.Close)
	other.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("%s got %q", r.Host, r.Header.Get("Authorization"))
		}
		w.WriteHeader(http.StatusUnauthorized)
	})
	asked := false
	s := serve(t, &p, func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		asked = password == "letmein"
		http.Redirect(w, r, other.URL+r.RequestURI, http.StatusFound)
	})
	p.Run(context.Background(), contract.CommandGitHTTPS, []string{"origin", strings.Replace(s.URL, "https://", "https://me:letmein@", 1)})
	if !asked || strings.Contains(errs.String(), "letmein") {
		t.Errorf("asked %v, says %q", asked, errs)
	}
}

func TestReferences(t *testing.T) {
	const id = "1111111111111111111111111111111111111111"
	for name, c := range map[string]struct{ message, want string }{
		"head": {line(id+" HEAD\x00symref=HEAD:refs/heads/main object-format=sha1\n") + line(id+" refs/heads/main\n") + "0000",
			"@refs/heads/main HEAD\n:object-format sha1\n" + id + " HEAD\n" + id + " refs/heads/main\n"},
		"empty":   {line(id+" capabilities^{}\x00agent=x") + "0000", ""},
		"version": {line("version 1\n") + line(id+" refs/tags/v1") + "0000", id + " refs/tags/v1\n"},
		"shallow": {line(id+" HEAD") + line("shallow "+id) + "0000", id + " HEAD\n"},
	} {
		if got, err := references([]byte(c.message)); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
	for name, message := range map[string]string{
		"error": line("ERR no such repository") + "0000", "two lines": line(id+" a\n@b c\n") + "0000", "cut": line(id + " HEAD"),
	} {
		if got, err := references([]byte(message)); err == nil {
			t.Errorf("%s: no error, but %q", name, got)
		}
	}
}

func TestSubmodule(t *testing.T) {
	for _, args := range [][]string{nil, {"foreach", "id"}, {"update", "--remote"}, {"update", "--", "x"}, {"update", "--reference=/"}} {
		p, _, errs := program(t, "")
		if code := p.Run(context.Background(), contract.CommandGitSubmodule, args); code != exitFatal || errs.Len() == 0 {
			t.Errorf("%q: exit code %d, says %q", args, code, errs)
		}
	}
}
