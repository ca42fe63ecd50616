package nodecheck

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

// Read returns all facts about these interfaces that come from the kernel.
func Read(interfaces []string) (Facts, error) {
	host, err := netif.ReadHost()
	if err != nil {
		return Facts{}, err
	}
	f := Facts{Host: host}
	f.ReadSettings(interfaces)
	return f, nil
}

// ReadSettings reads the settings whose changes the kernel does not notify. It leaves out
// interfaces, addresses and routes, of which there may be thousands. Files that do not exist
// are skipped, as a container may not see all of them.
func (f *Facts) ReadSettings(interfaces []string) { f.readSettings("/", interfaces) }

func (f *Facts) readSettings(root string, interfaces []string) {
	f.ARPIgnore, f.ReversePath, f.Forwarding = map[string]int{}, map[string]int{}, map[lb.Family]bool{}
	f.Wireless = map[string]bool{}
	for family, key := range map[lb.Family]string{lb.IPv4: "ipv4/ip_forward", lb.IPv6: "ipv6/conf/all/forwarding"} {
		if v, ok := sysctl(root, key); ok {
			f.Forwarding[family] = v != 0
		}
	}
	for _, i := range interfaces {
		f.ARPIgnore[i], f.ReversePath[i] = effective(root, i, "arp_ignore"), effective(root, i, "rp_filter")
		_, err := os.Stat(filepath.Join(root, "sys/class/net", i, "wireless"))
		f.Wireless[i] = err == nil
	}
}

// effective returns the effective value of a setting: the higher of the interface's own value
// and that for all interfaces.
func effective(root, i, key string) int {
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
