package battery

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// joined says which links in the cage's network share a segment: what one step
// sends on such a link another one hears.
func joined(pid int) (string, error) {
	space, err := netns.GetFromPid(pid)
	if err != nil {
		return "", fmt.Errorf("opening the cage's network: %w", err)
	}
	defer space.Close()
	h, err := netlink.NewHandleAt(space)
	if err != nil {
		return "", err
	}
	defer h.Close()
	links, err := h.LinkList()
	if err != nil {
		return "", fmt.Errorf("listing the cage's links: %w", err)
	}
	var found []string
	for _, l := range links {
		if l.Type() == "bridge" || l.Attrs().MasterIndex != 0 {
			found = append(found, l.Attrs().Name)
		}
	}
	if len(found) > 0 {
		return fmt.Sprintf("JOINED in the cage: %v\n", found), nil
	}
	return "no two links of the cage are joined\n", nil
}
