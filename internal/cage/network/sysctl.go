package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// setting is one kernel parameter of this namespace.
type setting struct {
	path, value string
	// optional settings may be missing or refused.
	optional bool
}

type settingList []setting

// settings lists what the firewall relies on. Forwarding is on because a
// packet must reach the forward hook to be rejected; nothing passes there.
func settings(uplinks []string, ipv6 bool) settingList {
	list := settingList{
		{"net/ipv4/ip_forward", "1", false},
		{"net/ipv4/icmp_ratemask", "0", true}, // every refused packet gets its error at once
		{"net/ipv4/icmp_echo_ignore_broadcasts", "1", true},
	}
	for _, scope := range append([]string{"all", "default", "lo"}, uplinks...) {
		conf := "net/ipv4/conf/" + scope + "/"
		list = append(list,
			setting{conf + "rp_filter", "1", scope == "lo"},
			setting{conf + "accept_redirects", "0", false},
			setting{conf + "secure_redirects", "0", true},
			setting{conf + "send_redirects", "0", false},
			setting{conf + "accept_source_route", "0", false},
			setting{conf + "route_localnet", "0", true},
			setting{conf + "arp_ignore", "1", true})
	}
	if !ipv6 {
		return list
	}
	list = append(list,
		setting{"net/ipv6/conf/all/forwarding", "1", true},
		setting{"net/ipv6/icmp/ratelimit", "0", true})
	for _, scope := range append([]string{"all", "default"}, uplinks...) {
		conf, optional := "net/ipv6/conf/"+scope+"/", scope != "default"
		list = append(list,
			setting{conf + "accept_ra", "0", optional},
			setting{conf + "accept_redirects", "0", optional},
			setting{conf + "accept_source_route", "0", optional},
			setting{conf + "accept_dad", "0", true},
			setting{conf + "router_solicitations", "0", true})
	}
	return list
}

func (l settingList) apply(root string) error {
	for _, s := range l {
		if err := write(root, s.path, s.value); err != nil && !s.optional {
			return err
		}
	}
	return nil
}

// write sets a parameter, unless it has the value already: where the file is
// read-only that is all that can be had.
func write(root, path, value string) error {
	file := filepath.Join(root, path)
	old, err := os.ReadFile(file)
	if err == nil && string(old) == value+"\n" {
		return nil
	}
	if err := os.WriteFile(file, []byte(value), 0); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("setting %s: the kernel does not have it", path)
		}
		return fmt.Errorf("setting %s: %w", path, err)
	}
	return nil
}
