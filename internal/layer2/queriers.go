package layer2

import (
	"net"
	"net/netip"
	"sync"
)

const (
	maxQueriers         = 16   // per address
	maxQueriedAddresses = 1024 // addresses whose queriers are remembered
	refreshAfter        = 4    // announcements before the queriers are refreshed a second time, one second after the first
)

// queriers remembers which hosts asked for which address, whichever node owns it. Such a
// host has an ARP cache entry for the address, which is wrong once the address has moved.
// Some hosts ignore an unsolicited broadcast, and some networks do not deliver it to all.
type queriers struct {
	mu        sync.Mutex                                     // guards the field below
	byAddress map[netip.Addr]map[netip.Addr]net.HardwareAddr // queried address -> IP and MAC of each querier
}

// record remembers the sender of a query.
func (q *queriers) record(f frame) {
	if !f.Target.Is4() || f.Sender.IsUnspecified() {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	hosts := q.byAddress[f.Target]
	if hosts == nil {
		for old := range q.byAddress { // any address: the next query for it adds it again
			if len(q.byAddress) < maxQueriedAddresses {
				break
			}
			delete(q.byAddress, old)
		}
		hosts = map[netip.Addr]net.HardwareAddr{}
		q.byAddress[f.Target] = hosts
	}
	if _, known := hosts[f.Sender]; !known && len(hosts) >= maxQueriers {
		for old := range hosts {
			delete(hosts, old)
			break
		}
	}
	hosts[f.Sender] = f.MAC
}

// queries returns the remembered queries for the address, as if they were received now.
func (q *queriers) queries(addr netip.Addr) (out []frame) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for sender, mac := range q.byAddress[addr] {
		out = append(out, frame{Target: addr, Sender: sender, MAC: mac})
	}
	return out
}
