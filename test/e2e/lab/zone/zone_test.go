package zone

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestAnswer(t *testing.T) {
	z, err := Parse(`
# comment
allowed.test       A     10.200.0.100
*.allowed.test     A     10.0.0.1,10.0.0.2 ttl=0
flip.allowed.test  A     10.200.0.100 then 127.0.0.1
www.test           CNAME allowed.test
gone.test          RCODE NXDOMAIN
`)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, want string }{
		{"allowed.test", "10.200.0.100"},
		{"a.b.allowed.test", "10.0.0.1 10.0.0.2"},
		{"flip.allowed.test", "10.200.0.100"},
		{"flip.allowed.test", "127.0.0.1"},
		{"flip.allowed.test", "127.0.0.1"},
		{"www.test", "allowed.test. 10.200.0.100"},
		{"gone.test", "NXDOMAIN"},
		{"other.test", "10.200.0.200"},
		{"test", "10.200.0.200"},
	} {
		a := z.Answer(tt.name, dns.TypeA)
		var got []string
		if a.Rcode != 0 {
			got = append(got, dns.RcodeToString[a.Rcode])
		}
		for _, rr := range a.Records(dns.Fqdn(tt.name)) {
			got = append(got, strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, s, tt.want)
		}
	}
	if a := z.Answer("allowed.test", dns.TypeAAAA); len(a.Records("x.")) > 0 || a.Rcode != 0 {
		t.Error("an address of the other family is not an empty answer")
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"a.test A", "a.test A ::1", "a.test MX b", "a.test RCODE NEVER", "a.test A 1.2.3.4 soon"} {
		if _, err := Parse(text); err == nil {
			t.Errorf("%q parses", text)
		}
	}
}
