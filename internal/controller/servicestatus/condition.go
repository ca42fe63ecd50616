package servicestatus

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plan"
	"github.com/fairlead-lb/fairlead/internal/view"
)

// foreign describes a conflict with a host outside of the cluster.
func foreign(c view.Conflict) string {
	if !c.Answers && c.Announced {
		return fmt.Sprintf("frames on %s of %s say that a host outside of the cluster, %s, has the address too; it does not answer, so they may be forged", c.Interface, c.Node, c.MAC)
	}
	return fmt.Sprintf("a host outside of the cluster, %s on %s of %s, has the address too", c.MAC, c.Interface, c.Node)
}

// state is the Announced condition to be.
type state struct {
	announced bool
	pending   bool         // should be announced in a moment
	contested bool         // some are announced, and a foreign host claims them too
	free      []netip.Addr // those that are announced, and that no foreign host had first
	taken     []taken      // those that a foreign host had first
	reason    lb.Reason
	message   string
}

// judge says who announces the Service's addresses, or why nobody does. One that
// is announced in one way, and not in another that was chosen too, is announced.
func judge(v serviceView, as lb.Assignment) state {
	st := state{announced: true, reason: lb.ReasonAnnounced}
	var parts []string
	for _, g := range as.Grants {
		found := v.announcementOf(g)
		why := found.announcement.Why()
		if why != 0 {
			st.announced, st.reason = false, why
		}
		ways := found.chosen()
		for _, w := range ways {
			st.pending = st.pending || w.pending
			st.taken = append(st.taken, w.taken...)
			st.free = append(st.free, w.free...)
			st.contested = st.contested || w.contested
			switch {
			case w.announced:
				parts = append(parts, w.words)
			case why == 0:
				parts = append(parts, fmt.Sprintf("not by %s: %s", w.name, w.words))
			case len(ways) > 1:
				parts = append(parts, fmt.Sprintf("%s is not announced by %s: %s", g.Addr, w.name, w.words))
			default:
				parts = append(parts, fmt.Sprintf("%s is not announced: %s", g.Addr, w.words))
			}
		}
	}
	st.message = strings.Join(parts, "; ")
	return st
}

// add takes in what else has the Service's addresses: one that clients cannot use is not
// announced to any purpose, whichever node does.
func (s *state) add(blocked []lb.Blocked) {
	for _, b := range blocked {
		if b.Unusable() {
			s.announced, s.reason = false, b.Reason
		}
		s.message += "; " + b.String()
	}
}

// fewNodes is how many nodes or routers a condition names.
const fewNodes = 10

// announced is what there is to say of an address.
type announced struct {
	announcement view.Announcement
	layer2, bgp  way
}

// chosen returns the ways for which there is an advertisement; layer 2 if there is none.
func (a *announced) chosen() []way {
	switch lb.ReasonNoAdvertisement {
	case a.announcement.BGP.Reason:
		return []way{a.layer2}
	case a.announcement.Layer2.Reason:
		return []way{a.bgp}
	default:
		return []way{a.layer2, a.bgp}
	}
}

// way is what there is to say of one way to announce an address.
type way struct {
	name      string
	announced bool
	words     string
	pending   bool    // should be announced in a moment
	taken     []taken // a foreign host had it first

	free      []netip.Addr // no foreign host had it first
	contested bool         // a foreign host claims it too
}

// taken is an address that a foreign host had first.
type taken struct {
	addr netip.Addr
	mac  string
}

// layer2 says who announces the address by layer 2, or why nobody does.
func layer2(v *view.View, a *view.Announcement) way {
	w := way{name: "layer 2"}
	l, addr, family := &a.Layer2, a.Grant.Addr, lb.FamilyOf(a.Grant.Addr)
	switch why := l.Why(); why {
	case 0:
		w.announced, w.contested = true, len(l.Conflicts) > 0
		w.words = fmt.Sprintf("%s by layer 2 from %s (%s)", addr, l.Owner.Node, strings.Join(l.Owner.Interfaces, ", ")) + strain(l.Strained, l.Owner.Node)
		for _, f := range l.Conflicts {
			w.words += "; " + foreign(f)
		}
		if !w.contested {
			w.free = []netip.Addr{addr}
		}
	case lb.ReasonConflict:
		w.words = foreign(l.Conflicts[0])
		if !l.Conflicts[0].Announced {
			w.taken = []taken{{addr, l.Conflicts[0].MAC}}
		}
	case lb.ReasonNotOwner:
		w.pending = true
		w.words = "no node has said so yet; can: " + strings.Join(l.Good, ", ")
	case lb.ReasonNoSubnet:
		w.words = v.NoSubnet(addr) + "; " + view.NoSubnetFix
		if others := slices.DeleteFunc(slices.Clone(l.Rejected), plan.Rejection.LacksInterface); len(others) > 0 {
			w.words += "; " + rejections(others, family)
		}
	default:
		w.words = because(why, l.Rejected, family)
	}
	return w
}

// bgp says who announces the address by BGP, and to whom, or why nobody does.
func bgp(a *view.Announcement) way {
	w := way{name: "BGP"}
	b := &a.BGP
	switch why := b.Why(); why {
	case 0:
		w.announced = true
		w.words = fmt.Sprintf("%s by BGP from %s to %s", a.Grant.Addr, kube.Some(b.From, fewNodes), kube.Some(b.To, fewNodes))
		for _, node := range b.From {
			w.words += strain(b.Strained, node)
		}
		if len(b.Silent) > 0 {
			w.words += fmt.Sprintf(" (not from %s: %s)", kube.Some(b.Silent, fewNodes), lb.ReasonNotEstablished.Words())
		}
		if len(b.Contradictions) > 0 {
			w.words += "; " + lb.Contradictions(b.Contradictions)
		}
	case lb.ReasonNotEstablished:
		w.pending = true
		w.words = kube.Some(b.Silent, fewNodes) + " " + why.Words() + "; see the BGPPeers"
	default:
		w.words = because(why, b.Rejected, lb.FamilyOf(a.Grant.Addr))
	}
	return w
}

// because says why an address is not announced, and what of it holds for which nodes.
func because(why lb.Reason, rejected []plan.Rejection, f lb.Family) string {
	if len(rejected) == 0 {
		return why.WordsFor(f)
	}
	return why.WordsFor(f) + ": " + rejections(rejected, f)
}

// strain says why another node would announce, if there were a better one.
func strain(strained []plan.Rejection, node string) string {
	for _, r := range strained {
		if r.Node == node {
			return fmt.Sprintf(", for want of a better node: %s %s", node, r.Reason.Words())
		}
	}
	return ""
}

// rejections names the nodes that cannot announce an address of the family, by reason.
func rejections(list []plan.Rejection, f lb.Family) string {
	byReason := map[lb.Reason][]string{}
	for _, r := range list {
		byReason[r.Reason] = append(byReason[r.Reason], r.Node)
	}
	var out []string
	for _, r := range slices.Sorted(maps.Keys(byReason)) {
		out = append(out, kube.Some(byReason[r], fewNodes)+" "+r.WordsFor(f))
	}
	return strings.Join(out, "; ")
}
