package speaker

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/netif"
	"github.com/fairlead-lb/fairlead/internal/nodecheck"
)

const (
	// fullCheckTicks is how many ticks of the loop there are from one full check of the
	// kernel's addresses and routes to the next, while no interface or address changes. At
	// the others only settings are read.
	fullCheckTicks = 6
	// manyRoutes is the size of a routing table that is read only with a full check, such as
	// one with all routes of the Internet.
	manyRoutes = 1000
)

// host is what the speaker knows of its node's interfaces, routes and kernel.
type host struct {
	system Interfaces
	kernel Kernel
	bind   netip.Addr // the gossip address

	interfaces []netif.Interface             // that may announce
	others     []v1alpha1.SpeakerHostAddress // addresses on other interfaces
	routes     netif.Routes
	gossipOn   string // the interface that has, or had, the gossip address
	severed    bool   // that interface is down, or has lost the address

	facts     nodecheck.Facts
	checked   bool // facts are complete
	unchecked int  // ticks since they were
}

// readInterfaces reads the interfaces. named are the patterns of L2Advertisements for
// interfaces. It reports whether anything changed, and whether the interface of the gossip is
// usable again.
func (h *host) readInterfaces(named []string) (changed, restored bool, err error) {
	list, rest, err := h.system.List()
	if err != nil {
		return false, false, err
	}
	h.routes.Apply(list)
	if i := slices.IndexFunc(list, func(i netif.Interface) bool { return i.Holds(h.bind) }); i >= 0 {
		h.gossipOn = list[i].Name
	}
	// An interface without an address is in no subnet, and a node may have hundreds: the
	// host's ends of its pods' interfaces, which may also have an address each. They count
	// if they are named. Network managers may remove addresses when the carrier is lost, and
	// add them again one by one.
	list = slices.DeleteFunc(list, func(i netif.Interface) bool {
		hasAddress := len(i.Prefixes)+len(i.OnLink) > 0
		counts := slices.Contains(named, i.Name) || hasAddress && (!i.Internal || i.MatchesAny(named))
		if !counts {
			rest = append(rest, addressesOn(i)...)
			return true
		}
		return i.Name == h.gossipOn && !i.Holds(h.bind)
	})
	h.others = hostAddresses(rest)
	if slices.EqualFunc(list, h.interfaces, netif.Interface.Equal) {
		return false, false, nil
	}
	wasSevered := h.severed
	h.interfaces = list
	h.severed = h.gossipOn != "" && !slices.ContainsFunc(list, func(i netif.Interface) bool { return i.Name == h.gossipOn && i.Up })
	return true, wasSevered && !h.severed, nil
}

// readRoutes reads the routing table; changed is false if nothing indicates a change.
func (h *host) readRoutes(changed bool) error {
	if !changed && h.routes.Count > manyRoutes && h.unchecked+1 < fullCheckTicks {
		return nil
	}
	routes, err := h.system.Routes()
	if err != nil {
		return err
	}
	h.routes = routes
	return nil
}

// check reads what in the node's kernel may interfere with announcing on these interfaces:
// settings at each tick, everything at some.
func (h *host) check(standby []string) error {
	if h.unchecked++; h.unchecked < fullCheckTicks {
		h.kernel.ReadSettings(&h.facts, standby)
		return nil
	}
	facts, err := h.kernel.Read(standby)
	if err != nil {
		return err
	}
	h.facts, h.checked, h.unchecked = facts, true, 0
	return nil
}

// checkSoon has the next check read everything.
func (h *host) checkSoon() { h.unchecked = fullCheckTicks }

func addressesOn(i netif.Interface) (out []netif.Address) {
	for _, p := range i.Prefixes {
		out = append(out, netif.Address{Addr: p.Addr(), Interface: i.Name})
	}
	return out
}

// hostAddresses returns what the Speaker lists of addresses on interfaces that may not announce,
// each once: a network plugin may give many interfaces the same.
func hostAddresses(rest []netif.Address) (out []v1alpha1.SpeakerHostAddress) {
	slices.SortFunc(rest, func(x, y netif.Address) int { return cmp.Or(x.Compare(y.Addr), cmp.Compare(x.Interface, y.Interface)) })
	for _, a := range slices.CompactFunc(rest, func(x, y netif.Address) bool { return x.Addr == y.Addr }) {
		if len(out) < v1alpha1.MaxSpeakerHostAddresses {
			out = append(out, v1alpha1.SpeakerHostAddress{Address: a.String(), Interface: a.Interface})
		}
	}
	return out
}
