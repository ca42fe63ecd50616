package nodecheck

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

// Read asks the kernel for everything about these interfaces.
func Read(interfaces []string) (Facts, error) {
	host, err := netif.Look()
	if err != nil {
		return Facts{}, err
	}
	f := Facts{Host: host}
	f.ReadSettings(interfaces)
	return f, nil
}

// ReadSettings asks the kernel for what it does not tell of when it changes: all but
// interfaces, addresses and routes, of which there may be thousands. Files that are not there
// are left out: a container may not see all of them.
func (f *Facts) ReadSettings(interfaces []string) { f.settings("/", interfaces) }

func (f *Facts) settings(root string, interfaces []string) {
	f.ARPIgnore, f.ReversePath, f.Forwarding = map[string]int{}, map[string]int{}, map[lb.Family]bool{}
	f.Wireless = map[string]bool{}
	for family, key := range map[lb.Family]string{lb.IPv4: "ipv4/ip_forward", lb.IPv6: "ipv6/conf/all/forwarding"} {
		if v, ok := sysctl(root, key); ok {
			f.Forwarding[family] = v != 0
		}
	}
	for _, i := range interfaces {
		f.ARPIgnore[i], f.ReversePath[i] = inForce(root, i, "arp_ignore"), inForce(root, i, "rp_filter")
		_, err := os.Stat(filepath.Join(root, "sys/class/net", i, "wireless"))
		f.Wireless[i] = err == nil
	}
}

// inForce returns the higher of an interface's own value and that for all, which
// is what the kernel goes by.
func inForce(root, i, key string) int {
	own, _ := sysctl(root, "ipv4/conf/"+i+"/"+key)
	all, _ := sysctl(root, "ipv4/conf/all/"+key)
	return max(own, all)
}

func sysctl(root, key string) (int, bool) {
	b, err := os.ReadFile(filepath.Join(root, "proc/sys/net", key))
	if err != nil {
		return 0, false
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(b)))
	return v, err == nil
}
