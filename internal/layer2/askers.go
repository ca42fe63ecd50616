package layer2

import (
	"net"
	"net/netip"
	"sync"
)

const (
	mostAskers  = 16   // remembered of one address
	mostAsked   = 1024 // addresses of which askers are remembered
	refreshedAt = 4    // the announcement with which askers are refreshed once more, a second after the first
)

// askers remembers who asked for which address, whoever owns it: they have an
// entry for it, which is wrong when the address moves. Not all heed a broadcast
// that they did not ask for, and not all networks deliver it to all.
type askers struct {
	mu sync.Mutex // guards the field below
	of map[netip.Addr]map[netip.Addr]net.HardwareAddr
}

// note remembers a question.
func (a *askers) note(h heard) {
	if !h.Target.Is4() || h.From.IsUnspecified() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	of := a.of[h.Target]
	if of == nil {
		for old := range a.of { // any: who asks again is remembered again
			if len(a.of) < mostAsked {
				break
			}
			delete(a.of, old)
		}
		of = map[netip.Addr]net.HardwareAddr{}
		a.of[h.Target] = of
	}
	if _, known := of[h.From]; !known && len(of) >= mostAskers {
		for old := range of {
			delete(of, old)
			break
		}
	}
	of[h.From] = h.MAC
}

// questions returns what was asked for the address, as if it were asked now.
func (a *askers) questions(addr netip.Addr) (out []heard) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for from, mac := range a.of[addr] {
		out = append(out, heard{Target: addr, From: from, MAC: mac})
	}
	return out
}
