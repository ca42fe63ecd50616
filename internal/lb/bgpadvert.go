package lb

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// BGPAdvertisement says which addresses are announced to routers, from which
// nodes, to whom and with which attributes.
type BGPAdvertisement struct {
	Name string
	Scope
	Peers            []string // sorted names; empty: all
	Length4, Length6 int      // of the prefixes that are announced
	BGPAttributes             // Drain is not used
}

// SelectsPeer reports whether the advertisement is for the peer of this name.
func (a *BGPAdvertisement) SelectsPeer(name string) bool {
	return len(a.Peers) == 0 || slices.Contains(a.Peers, name)
}

// Prefix returns what is announced for the address.
func (a *BGPAdvertisement) Prefix(addr netip.Addr) netip.Prefix {
	return PrefixOf(addr, a.Length(FamilyOf(addr)))
}

// Length returns the length of the prefixes of a family.
func (a *BGPAdvertisement) Length(f Family) int {
	if f == IPv4 {
		return a.Length4
	}
	return a.Length6
}

// PrefixOf returns the prefix of this length that has the address.
func PrefixOf(addr netip.Addr, bits int) netip.Prefix { return netip.PrefixFrom(addr, bits).Masked() }

// Contradiction is an attribute about which two advertisements of one prefix say
// different things. The older of them is right.
type Contradiction struct {
	Field        string // as the API has it
	Older, Newer string // names of the advertisements
}

// String returns a phrase such as `localPref of BGPAdvertisement "b" is not that
// of the older "a", which counts`.
func (c Contradiction) String() string {
	return fmt.Sprintf("%s of BGPAdvertisement %q is not that of the older %q, which counts", c.Field, c.Newer, c.Older)
}

// Merge returns what a route says that all these advertisements are for, which
// are there oldest first: all their communities, and of the rest what the oldest
// says that says something.
func Merge(adverts []*BGPAdvertisement) (BGPAttributes, []Contradiction) {
	var out BGPAttributes
	var wrong []Contradiction
	var pref, med, prepend *BGPAdvertisement // who said it
	settle := func(field string, by **BGPAdvertisement, a *BGPAdvertisement, says, same bool, take func()) {
		switch {
		case !says:
		case *by == nil:
			*by = a
			take()
		case !same:
			wrong = append(wrong, Contradiction{Field: field, Older: (*by).Name, Newer: a.Name})
		}
	}
	lists := make([][]Community, 0, len(adverts))
	for _, a := range adverts {
		lists = append(lists, a.Communities)
		settle("localPref", &pref, a, a.LocalPref.Set, a.LocalPref == out.LocalPref, func() { out.LocalPref = a.LocalPref })
		settle("med", &med, a, a.MED.Set, a.MED == out.MED, func() { out.MED = a.MED })
		settle("asPathPrepend", &prepend, a, a.Prepend > 0, a.Prepend == out.Prepend, func() { out.Prepend = a.Prepend })
	}
	out.Communities = UniteCommunities(lists...)
	return out, wrong
}

// Contradictions joins them to a sentence.
func Contradictions(list []Contradiction) string {
	var out []string
	for _, c := range list {
		if s := c.String(); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return strings.Join(out, "; ")
}
