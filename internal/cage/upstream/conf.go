package upstream

import (
	"bufio"
	"io"
	"net/netip"
	"strings"
)

// maxServers is glibc's MAXNS.
const maxServers = 3

// ParseConf reads the nameservers of a resolv.conf. Search domains and options
// are ignored: names in the cage are absolute. Lines that make no sense are
// ignored too, as every resolver does.
func ParseConf(r io.Reader) ([]netip.AddrPort, error) {
	var servers []netip.AddrPort
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" || len(servers) == maxServers {
			continue
		}
		if addr, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, netip.AddrPortFrom(addr, 53))
		}
	}
	return servers, lines.Err()
}
