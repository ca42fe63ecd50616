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
		return fmt.Sprintf("frames on %s of %s claim the address for a host outside of the cluster, %s; it does not answer, so they may be forged", c.Interface, c.Node, c.MAC)
	}
	return fmt.Sprintf("a host outside of the cluster, %s on %s of %s, has the address too", c.MAC, c.Interface, c.Node)
}

// condition is the Announced condition to be.
type condition struct {
	announced bool
	pending   bool         // should be announced in a moment
	contested bool         // some are announced, and a foreign host claims them too
	free      []netip.Addr // those that are announced, and that no foreign host had first
	taken     []taken      // those that a foreign host had first
	reason    lb.Reason
	message   string
}

// conditionFor says which nodes announce the Service's addresses, or why none does. An
// address that is announced by one protocol, and not by another for which there is an
// advertisement too, is announced. One of those blocked that clients cannot use is not.
func conditionFor(v serviceView, as lb.Assignment, blocked []lb.Blocked) condition {
	cond := condition{announced: true, reason: lb.ReasonAnnounced}
	var parts []string
	for _, g := range as.Grants {
		found := v.announcementOf(g)
		why := found.announcement.Why()
		if why != 0 {
			cond.announced, cond.reason = false, why
		}
		protocols := found.advertised()
		for _, p := range protocols {
			cond.pending = cond.pending || p.pending
			cond.taken = append(cond.taken, p.taken...)
			cond.free = append(cond.free, p.free...)
			cond.contested = cond.contested || p.contested
			switch {
			case p.announced:
				parts = append(parts, p.text)
			case why == 0:
				parts = append(parts, fmt.Sprintf("not by %s: %s", p.name, p.text))
			case len(protocols) > 1:
				parts = append(parts, fmt.Sprintf("%s is not announced by %s: %s", g.Addr, p.name, p.text))
			default:
				parts = append(parts, fmt.Sprintf("%s is not announced: %s", g.Addr, p.text))
			}
		}
	}
	for _, b := range blocked {
		if b.Unusable() {
			cond.announced, cond.reason = false, b.Reason
		}
		parts = append(parts, b.String())
	}
	cond.message = strings.Join(parts, "; ")
	return cond
}

// fewNodes is how many nodes or routers a condition names.
const fewNodes = 10

// announced is what is known of the announcement of one address.
type announced struct {
	announcement view.Announcement
	layer2, bgp  protocol
}

// advertised returns the protocols for which there is an advertisement; layer 2 if there is
// none.
func (a *announced) advertised() []protocol {
	switch lb.ReasonNoAdvertisement {
	case a.announcement.BGP.Reason:
		return []protocol{a.layer2}
	case a.announcement.Layer2.Reason:
		return []protocol{a.bgp}
	default:
		return []protocol{a.layer2, a.bgp}
	}
}

// protocol is what is known of the announcement of an address by one protocol.
type protocol struct {
	name      string
	announced bool
	text      string       // who announces it, or why nobody does
	pending   bool         // should be announced in a moment
	taken     []taken      // a foreign host had it first
	free      []netip.Addr // no foreign host had it first
	contested bool         // a foreign host claims it too
}

// taken is an address that a foreign host had first.
type taken struct {
	addr netip.Addr
	mac  string
}

// layer2 returns what is known of the announcement by layer 2.
func layer2(v *view.View, a *view.Announcement) protocol {
	p := protocol{name: "layer 2"}
	l, addr, family := &a.Layer2, a.Grant.Addr, lb.FamilyOf(a.Grant.Addr)
	switch why := l.Why(); why {
	case 0:
		p.announced, p.contested = true, len(l.Conflicts) > 0
		p.text = fmt.Sprintf("%s by layer 2 from %s (%s)", addr, l.Owner.Node, strings.Join(l.Owner.Interfaces, ", ")) + strained(l.Strained, []string{l.Owner.Node}, family)
		for _, f := range l.Conflicts {
			p.text += "; " + foreign(f)
		}
		if !p.contested {
			p.free = []netip.Addr{addr}
		}
	case lb.ReasonConflict:
		p.text = foreign(l.Conflicts[0])
		if !l.Conflicts[0].Announced {
			p.taken = []taken{{addr, l.Conflicts[0].MAC}}
		}
	case lb.ReasonNotOwner:
		p.pending = true
		p.text = "no node reports that it announces the address yet; candidates: " + kube.Some(l.Good, fewNodes)
	case lb.ReasonNoSubnet:
		p.text = v.NoSubnet(addr) + "; " + lb.ReasonNoSubnet.Fix()
		if others := slices.DeleteFunc(slices.Clone(l.Rejected), plan.Rejection.LacksInterface); len(others) > 0 {
			p.text += "; " + rejections(others, family)
		}
	default:
		p.text = because(why, l.Rejected, family)
	}
	return p
}

// bgp returns what is known of the announcement by BGP.
func bgp(a *view.Announcement) protocol {
	p := protocol{name: "BGP"}
	b := &a.BGP
	switch why := b.Why(); why {
	case 0:
		p.announced = true
		p.text = fmt.Sprintf("%s by BGP from %s to %s", a.Grant.Addr, kube.Some(b.From, fewNodes), kube.Some(b.To, fewNodes))
		if len(b.Silent) > 0 {
			p.text += fmt.Sprintf(" (not from %s: %s)", kube.Some(b.Silent, fewNodes), lb.ReasonNotEstablished.Words())
		}
		p.text += strained(b.Strained, b.From, lb.FamilyOf(a.Grant.Addr))
		if len(b.Contradictions) > 0 {
			p.text += "; " + lb.Contradictions(b.Contradictions)
		}
	case lb.ReasonNotEstablished:
		p.pending = true
		p.text = kube.Some(b.Silent, fewNodes) + " " + why.Words() + "; see the BGPPeers"
	default:
		p.text = because(why, b.Rejected, lb.FamilyOf(a.Grant.Addr))
	}
	return p
}

// because returns the reason, and which nodes cannot announce the address for which reasons.
func because(why lb.Reason, rejected []plan.Rejection, f lb.Family) string {
	if len(rejected) == 0 {
		return why.WordsFor(f)
	}
	return why.WordsFor(f) + ": " + rejections(rejected, f)
}

// strained names what is wrong with those of the nodes that announce an address only because
// no better node can.
func strained(list []plan.Rejection, nodes []string, f lb.Family) string {
	list = slices.DeleteFunc(slices.Clone(list), func(r plan.Rejection) bool { return !slices.Contains(nodes, r.Node) })
	if len(list) == 0 {
		return ""
	}
	return "; no better node is available: " + rejections(list, f)
}

// rejections lists the nodes that cannot announce an address of the family, by reason.
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
