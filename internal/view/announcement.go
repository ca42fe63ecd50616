package view

import (
	"slices"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plan"
)

// Announcement is who announces an address, in each way, and why others do not.
type Announcement struct {
	Grant  lb.Grant
	Users  []lb.Assignment // the Services that have it
	Layer2 Layer2
	BGP    BGP
}

// Layer2 is who announces an address by ARP or NDP.
type Layer2 struct {
	plan.Candidates
	Adverts   []string // names of the advertisements that choose the address
	Owner     Owner    // who says that it announces it; none where Node is ""
	Conflicts []Conflict
}

// BGP is who announces an address to routers.
type BGP struct {
	plan.Announcers
	Adverts []string // names of the advertisements that choose the address
	From    []string // those of Nodes that have a session over which they announce it
	To      []string // the routers it is advertised to
	Silent  []string // those of Nodes that have none
}

// Announcement finds who announces an address for the Services that have it.
func (v *View) Announcement(users []lb.Assignment, g lb.Grant) Announcement {
	return Announcement{Grant: g, Users: users, Layer2: v.layer2(users, g), BGP: v.bgp(users, g)}
}

func (v *View) layer2(users []lb.Assignment, g lb.Grant) Layer2 {
	l := Layer2{Candidates: v.Candidates(users, g)}
	l.Conflicts = credible(v.Conflicts[g.Addr.String()], l.Able)
	for i := range v.Advertisements {
		if a := &v.Advertisements[i]; chosenBy(&a.Scope, users, g) {
			l.Adverts = append(l.Adverts, a.Name)
		}
	}
	owner := v.Owners[g.Addr.String()]
	if _, able := l.Able[owner.Node]; able {
		l.Owner = owner
	}
	return l
}

// credible are the conflicts that nodes report which can announce the address on that
// interface: only those ask the network for it. With a stolen token any node can report
// a conflict for any address, and the Service would get another address.
func credible(reported []Conflict, able map[string][]string) []Conflict {
	return slices.DeleteFunc(slices.Clone(reported), func(c Conflict) bool {
		return !slices.Contains(able[c.Node], c.Interface)
	})
}

func (v *View) bgp(users []lb.Assignment, g lb.Grant) BGP {
	b := BGP{Announcers: v.Announcers(users, g)}
	for i := range v.BGPAdvertisements {
		if a := &v.BGPAdvertisements[i]; chosenBy(&a.Scope, users, g) {
			b.Adverts = append(b.Adverts, a.Name)
		}
	}
	for _, node := range b.Nodes {
		advertised := 0
		for _, p := range b.Peers[node] {
			if slices.Contains(v.Up[node], p) {
				b.To = append(b.To, p)
				advertised++
			}
		}
		if advertised > 0 {
			b.From = append(b.From, node)
		} else {
			b.Silent = append(b.Silent, node)
		}
	}
	slices.Sort(b.To)
	b.To = slices.Compact(b.To)
	return b
}

// chosenBy reports whether an advertisement is for one of the Services that have
// the address.
func chosenBy(s *lb.Scope, users []lb.Assignment, g lb.Grant) bool {
	return slices.ContainsFunc(users, func(as lb.Assignment) bool { return s.Selects(g, as.Labels) })
}

// Why is why no node announces the address by layer 2; 0 when one does.
func (l *Layer2) Why() lb.Reason {
	switch {
	case l.Owner.Node != "":
		return 0
	case l.Reason != 0:
		return l.Reason
	case len(l.Conflicts) > 0:
		return lb.ReasonConflict
	default:
		return lb.ReasonNotOwner
	}
}

// Why is why no node announces the address by BGP; 0 when one does.
func (b *BGP) Why() lb.Reason {
	switch {
	case len(b.From) > 0:
		return 0
	case b.Reason != 0:
		return b.Reason
	default:
		return lb.ReasonNotEstablished
	}
}

// Why is why no node announces the address in any way; 0 when one does. Of
// a way that no advertisement chose nothing is expected.
func (a *Announcement) Why() lb.Reason {
	l2, bgp := a.Layer2.Why(), a.BGP.Why()
	switch {
	case l2 == 0 || bgp == 0:
		return 0
	case l2 == lb.ReasonNoAdvertisement:
		return bgp
	default:
		return l2
	}
}

// WhyWords says why no node announces the address.
func (v *View) WhyWords(a *Announcement) string {
	why := a.Why()
	if why == lb.ReasonNoSubnet {
		return v.NoSubnet(a.Grant.Addr)
	}
	return why.WordsFor(lb.FamilyOf(a.Grant.Addr))
}

// Rejected returns the nodes that cannot announce the address by the way in which
// it should be, and why.
func (a *Announcement) Rejected() []plan.Rejection {
	if a.Layer2.Reason == lb.ReasonNoAdvertisement {
		return a.BGP.Rejected
	}
	return a.Layer2.Rejected
}
