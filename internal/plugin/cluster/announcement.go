package cluster

import (
	"slices"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plan"
	"github.com/fairlead-lb/fairlead/internal/view"
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
	Adverts   []string   // names of the advertisements that choose the address
	Owner     view.Owner // who says that it announces it; none where Node is ""
	Conflicts []view.Conflict
}

// BGP is who announces an address to routers.
type BGP struct {
	plan.Announcers
	Adverts []string // names of the advertisements that choose the address
	From    []string // those of Nodes that have a session over which they announce it
	To      []string // the routers that are told
	Silent  []string // those of Nodes that have none
}

// Announcement finds who announces an address that Services of ours have. It is not to
// be changed: others are given the same.
func (c *Cluster) Announcement(g lb.Grant) Announcement {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, known := c.found[g.Addr]
	if !known {
		a = c.announcement(g)
		c.found[g.Addr] = a
	}
	return a
}

func (c *Cluster) announcement(g lb.Grant) Announcement {
	a := Announcement{Grant: g, Users: c.Users[g.Addr]}
	a.Layer2 = c.layer2(a.Users, g)
	a.BGP = c.bgp(a.Users, g)
	return a
}

func (c *Cluster) layer2(users []lb.Assignment, g lb.Grant) Layer2 {
	l := Layer2{Candidates: c.View.Candidates(users, g), Conflicts: c.View.Conflicts[g.Addr.String()]}
	for i := range c.View.Advertisements {
		if a := &c.View.Advertisements[i]; chosenBy(&a.Scope, users, g) {
			l.Adverts = append(l.Adverts, a.Name)
		}
	}
	owner := c.View.Owners[g.Addr.String()]
	if _, able := l.Able[owner.Node]; able {
		l.Owner = owner
	}
	return l
}

func (c *Cluster) bgp(users []lb.Assignment, g lb.Grant) BGP {
	b := BGP{Announcers: c.View.Announcers(users, g)}
	for i := range c.View.BGPAdvertisements {
		if a := &c.View.BGPAdvertisements[i]; chosenBy(&a.Scope, users, g) {
			b.Adverts = append(b.Adverts, a.Name)
		}
	}
	for _, node := range b.Nodes {
		told := 0
		for _, p := range b.Peers[node] {
			if slices.Contains(c.View.Up[node], p) {
				b.To = append(b.To, p)
				told++
			}
		}
		if told > 0 {
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

// Why is why nobody announces the address by layer 2; 0 when somebody does.
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

// Why is why nobody announces the address by BGP; 0 when somebody does.
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

// Why is why nobody announces the address in any way; 0 when somebody does. Of
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
func (c *Cluster) WhyWords(a *Announcement) string {
	why := a.Why()
	if why == lb.ReasonNoSubnet {
		return c.View.NoSubnet(a.Grant.Addr)
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
