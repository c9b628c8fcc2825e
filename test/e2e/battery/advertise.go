package battery

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/test/e2e/lab"
)

// advertise is a router on the lab's network, of the kind that a cage must not
// listen to: it announces a default route and a prefix, three times, and tells
// whether the cage's routes and neighbours stayed as they were.
func advertise(ctx context.Context, _ *Run, cage *lab.Cage, _ []string) (string, error) {
	before, _, err := cageState(cage.PID)
	if err != nil {
		return "", err
	}
	for range 3 {
		if err := announce(); err != nil {
			return "", fmt.Errorf("announcing a router: %w", err)
		}
		select {
		case <-time.After(200 * time.Millisecond): // for a kernel that acts on it
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	after, _, err := cageState(cage.PID)
	if err != nil {
		return "", err
	}
	if changed := changes(before, after); len(changed) > 0 {
		return "CHANGED in the cage: " + strings.Join(changed, ", "), nil
	}
	return "three advertisements, the cage's routes and neighbours are unchanged\n", nil
}

// announce sends one router advertisement from the lab's bridge to its ports.
func announce() error {
	link, err := net.InterfaceByName(lab.Network)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for option, value := range map[int]int{unix.IPV6_MULTICAST_HOPS: 255, unix.IPV6_MULTICAST_IF: link.Index} {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, option, value); err != nil {
			return err
		}
	}
	m := []byte{134, 0, 0, 0, 64, 0, 14, 16, 0, 0, 0, 0, 0, 0, 0, 0} // a default router for an hour
	m = append(m, 3, 4, 64, 0xc0, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 0, 0)
	m = append(m, netip.MustParseAddr("2001:db8:666::").AsSlice()...) // a prefix to take addresses from
	to := &unix.SockaddrInet6{Addr: netip.MustParseAddr("ff02::1").As16(), ZoneId: uint32(link.Index)}
	return unix.Sendto(fd, m, 0, to)
}
