package network

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSettings(t *testing.T) {
	root := t.TempDir()
	list := settings([]string{"eth0"}, true)
	for _, s := range list {
		file := filepath.Join(root, s.path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("7\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := list.apply(root); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"net/ipv4/ip_forward": "1", "net/ipv4/conf/all/rp_filter": "1", "net/ipv4/conf/default/rp_filter": "1",
		"net/ipv4/conf/eth0/rp_filter": "1", "net/ipv4/conf/all/route_localnet": "0", "net/ipv6/conf/eth0/accept_ra": "0",
	} {
		if b, err := os.ReadFile(filepath.Join(root, path)); err != nil || string(b) != want {
			t.Errorf("%s is %q, %v, want %s", path, b, err, want)
		}
	}
	// What the firewall relies on must be there; the rest may be missing.
	if err := (settingList{{"nowhere/nothing", "1", true}}).apply(root); err != nil {
		t.Error(err)
	}
	if err := (settingList{{"nowhere/nothing", "1", false}}).apply(root); err == nil {
		t.Error("a missing setting was taken for set")
	}
	for _, s := range settings(nil, false) {
		if strings.Contains(s.path, "ipv6") {
			t.Errorf("%s is set without IPv6", s.path)
		}
	}
}

func TestSibling(t *testing.T) {
	if got := sibling(netip.MustParseAddr("198.19.1.255")); got != netip.MustParseAddr("fd62:7569:6c64:19::1ff") {
		t.Errorf("sibling %s", got)
	}
}
