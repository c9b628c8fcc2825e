package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

const repositories = "/repos"

// gitServer speaks git's smart protocol over HTTP. Below /old/ it does not
// understand the second version of it, below /moved/ it sends clients away.
type gitServer struct{ token string }

var repository = regexp.MustCompile(`^/(?:old/|moved/)?([a-z0-9-]+\.git)/(info/refs|git-upload-pack)$`)

func (s *gitServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	found := repository.FindStringSubmatch(r.URL.Path)
	if found == nil {
		http.NotFound(w, r)
		return
	}
	if to, ok := strings.CutPrefix(r.RequestURI, "/moved/"); ok {
		http.Redirect(w, r, "https://other.example.com/"+to, http.StatusFound)
		return
	}
	_, password, _ := r.BasicAuth()
	if strings.HasPrefix(found[1], "private-") && password != s.token {
		w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
		http.Error(w, "who are you", http.StatusUnauthorized)
		return
	}
	args, kind := []string{"upload-pack", "--stateless-rpc"}, "result"
	if found[2] == "info/refs" {
		args, kind = append(args, "--advertise-refs"), "advertisement"
	}
	cmd := exec.CommandContext(r.Context(), "/git", append(args, filepath.Join(repositories, found[1]))...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r.Body, w, os.Stdout
	cmd.Env = gitEnv()
	if version := r.Header.Get("Git-Protocol"); !strings.HasPrefix(r.URL.Path, "/old/") {
		cmd.Env = append(cmd.Env, "GIT_PROTOCOL="+version)
	}
	w.Header().Set("Content-Type", "application/x-git-upload-pack-"+kind)
	if kind == "advertisement" {
		_, _ = io.WriteString(w, "001e# service=git-upload-pack\n0000")
	}
	if err := cmd.Run(); err != nil {
		fmt.Println("git:", r.URL.Path, err)
	}
}

func gitEnv() []string {
	return []string{
		"PATH=/", "HOME=/tmp", "GIT_CONFIG_NOSYSTEM=1", "GIT_ALLOW_PROTOCOL=file",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_AUTHOR_DATE=@0 +0000",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com", "GIT_COMMITTER_DATE=@0 +0000",
		"GIT_CONFIG_COUNT=2", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		"GIT_CONFIG_KEY_1=uploadpack.allowAnySHA1InWant", "GIT_CONFIG_VALUE_1=true",
	}
}

// makeRepositories makes three for each name: lib-NAME, private-NAME, and
// main-NAME, which has a tag, a branch, a build in a subdirectory, and
// lib-NAME as submodule. No two have a commit in common, nor with those of
// another run, so that nothing of them is in a cache.
func makeRepositories(names []string) error {
	for _, name := range names {
		nonce := rand.Text()
		at, err := makeRepository("lib-"+name+".git", map[string]string{"lib.txt": "library\n", "nonce": nonce}, nil)
		if err != nil {
			return err
		}
		if _, err := makeRepository("private-"+name+".git", map[string]string{"private.txt": "private\n", "nonce": nonce}, nil); err != nil {
			return err
		}
		modules := "[submodule \"lib\"]\n\tpath = lib\n\turl = https://git.example.com/lib-" + name + ".git\n"
		_, err = makeRepository("main-"+name+".git", map[string]string{
			"main.txt": "main\n", "nonce": nonce,
			".gitmodules":    modules,
			"sub/Dockerfile": "FROM scratch\nCOPY sub.txt /\n",
			"sub/sub.txt":    "sub\n",
		}, []string{"update-index", "--add", "--cacheinfo", "160000," + at + ",lib"})
		if err != nil {
			return err
		}
	}
	return nil
}

// makeRepository makes a bare repository with the files, tagged v1, and
// another commit on top. It returns the first commit.
func makeRepository(name string, files map[string]string, more []string) (commit string, err error) {
	tree, err := os.MkdirTemp("", "")
	if err != nil {
		return "", err
	}
	bare := filepath.Join(repositories, name)
	git := func(args ...string) string {
		if err != nil {
			return ""
		}
		cmd := exec.Command("/git", append([]string{"--git-dir", bare, "--work-tree", tree}, args...)...)
		cmd.Dir, cmd.Env = tree, gitEnv()
		var out []byte
		if out, err = cmd.CombinedOutput(); err != nil {
			err = fmt.Errorf("git %s: %w: %s", args[0], err, out)
		}
		return strings.TrimSpace(string(out))
	}
	for file, text := range files {
		path := filepath.Join(tree, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(bare, 0o755); err != nil {
		return "", err
	}
	git("-c", "init.defaultBranch=main", "init", "-q")
	git("add", ".")
	if more != nil {
		git(more...)
	}
	git("commit", "-q", "-m", "one")
	commit = git("rev-parse", "HEAD")
	git("tag", "-a", "-m", "v1", "v1")
	git("commit", "-q", "--allow-empty", "-m", "two")
	return commit, err
}
