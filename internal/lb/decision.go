package lb

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Port is a port of a Service as clients reach it.
type Port struct {
	Protocol string // TCP, UDP or SCTP
	Number   uint16
}

// String returns a port such as "TCP port 80".
func (p Port) String() string { return fmt.Sprintf("%s port %d", p.Protocol, p.Number) }

// Request is what a Service, or a claim, asks for.
type Request struct {
	Holder          Holder
	Created         time.Time // who waits is served in this order
	Labels          Labels
	NamespaceLabels Labels

	// Families are the families wanted, the first one first. RequireAll says
	// that some of them are not enough (RequireDualStack and SingleStack).
	Families   []Family
	RequireAll bool

	Pool      string       // the only pool to take from; "" for any that fits
	Addresses []netip.Addr // the exact addresses wanted, at most one per family
	Claim     string       // the IPAddressClaim of the namespace to have all from; "" for none
	Deleting  bool         // a claim that is to go: it is lent to nobody new

	// ShareKey is what Services that share an address have in common; "" for one
	// that shares with nobody. Their Ports must differ, and their Backends be the
	// same.
	ShareKey string
	Ports    []Port
	// Backends is the pod selector under externalTrafficPolicy Local, where a node
	// serves only its own pods and so all must be on the same nodes; else "".
	Backends string
}

// Exact returns the address that the request names for the family, if any.
func (r *Request) Exact(f Family) (netip.Addr, bool) {
	for _, a := range r.Addresses {
		if FamilyOf(a) == f {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// Grant is one address of a Service and the pool it is from.
type Grant struct {
	Addr  netip.Addr
	Pool  string
	Claim string // the IPAddressClaim that has lent it; "" for the Service's own
}

// String returns where the address is from, for people.
func (g Grant) String() string {
	if g.Claim != "" {
		return fmt.Sprintf("%s of IPAddressClaim %q, from pool %q", g.Addr, g.Claim, g.Pool)
	}
	return fmt.Sprintf("%s from pool %q", g.Addr, g.Pool)
}

// Decision is the allocator's answer to a Request: what the holder has, and
// for each family that it lacks every pool considered and why it refused.
type Decision struct {
	Grants   []Grant
	Refusals []Refusal
	// Picked says why each of Grants is that address and no other:
	// ReasonKept, ReasonLowest, ReasonFreedLongest, ReasonNamed, ReasonShared,
	// ReasonClaimed.
	Picked []Reason
	// Passed are the pools that were asked before those that gave something, and
	// why they did not.
	Passed []Refusal
	Asked  []netip.Addr // the exact addresses that the request named
	// Conflicts are addresses that the holder loses because somebody else has
	// them, and why they cannot both.
	Conflicts []Refusal
	// Blocked are those of Grants that something else has too, since it was assigned. It
	// stays until the user asks for another.
	Blocked []Blocked
	// Met says that the holder has what it must have. A second family that is
	// only preferred may be missing still.
	Met bool
}

// Complete reports whether nothing that was asked for is missing.
func (d Decision) Complete() bool { return len(d.Refusals) == 0 }

// Addresses returns the granted addresses in the order of the request.
func (d Decision) Addresses() []netip.Addr {
	as := make([]netip.Addr, len(d.Grants))
	for i, g := range d.Grants {
		as[i] = g.Addr
	}
	return as
}

// Reason returns the reason to show: ReasonAssigned when the request is
// met, else the one that all refusals have, or ReasonNoPoolFits when they differ.
// That a pool does not have an exact address is a reason only if none has it.
func (d Decision) Reason() Reason {
	if d.Met {
		return ReasonAssigned
	}
	var reason Reason
	for _, r := range d.Refusals {
		switch {
		case reason == 0 || reason == ReasonAddressNotInPool:
			reason = r.Reason
		case r.Reason != reason && r.Reason != ReasonAddressNotInPool:
			return ReasonNoPoolFits
		}
	}
	return reason
}

// String tells the decision in one line for a person. It says what is so and
// not how it came about, so that a decision made again reads the same.
func (d Decision) String() string {
	var parts []string
	for _, g := range d.Grants {
		parts = append(parts, g.String())
	}
	if len(d.Refusals) > 0 {
		head := "no address"
		if len(d.Asked) > 0 {
			head = "cannot assign " + joinAddrs(d.Asked)
		} else if len(d.Grants) > 0 {
			head = fmt.Sprintf("no %s address", d.Refusals[0].Family)
		}
		parts = append(parts, head+": "+words(d.Refusals))
	}
	text := strings.Join(parts, ", ")
	for _, b := range d.Blocked {
		text += "; " + b.String()
	}
	return text
}

// Story tells of the address at index i of Grants where it is from, why it is
// that one, and why the pools asked before did not give one.
func (d Decision) Story(i int) string {
	g := d.Grants[i]
	s := g.String()
	if why := d.Picked[i].Words(); why != "" {
		s += ", " + why
	}
	passed := slices.DeleteFunc(slices.Clone(d.Passed), func(r Refusal) bool { return r.Family != FamilyOf(g.Addr) })
	if len(passed) > 0 {
		s += " (" + words(passed) + ")"
	}
	return s
}

// words joins refusals; some are the same for both families and said once.
func words(refusals []Refusal) string {
	var why []string
	for _, r := range refusals {
		if text := r.String(); !slices.Contains(why, text) {
			why = append(why, text)
		}
	}
	return joinFew(why, fewRefusals, "; ")
}

// fewRefusals is how many pools' refusals a message has.
const fewRefusals = 10

func joinAddrs(as []netip.Addr) string {
	s := make([]string, len(as))
	for i, a := range as {
		s[i] = a.String()
	}
	return strings.Join(s, ", ")
}

// Refusal says why a pool did not give an address of a family. Beside the
// reason it has what the reason's words need.
type Refusal struct {
	Pool    string // "" when no one pool refused, as with ReasonNoPool
	Family  Family
	Reason  Reason
	Addr    netip.Addr // the address that could not be had
	By      Holder     // who has it
	Port    Port       // that both want
	Count   int        // addresses in use, or the quota
	Blocked int        // addresses of the pool that something else has
	Other   string     // the older pool, the claim, the key, the field that forbids, what has the address
}

// String returns a phrase such as `pool "a": no free IPv4 address (50 in use)`.
func (r Refusal) String() string {
	if r.Pool == "" {
		return r.words()
	}
	return fmt.Sprintf("pool %s: %s", Quote(r.Pool), r.words())
}

func (r Refusal) words() string {
	switch r.Reason {
	case ReasonNoPool:
		return "there is no IPAddressPool; create one"
	case ReasonUnknownPool:
		return "there is no such IPAddressPool"
	case ReasonPoolDisabled:
		return "disabled"
	case ReasonPoolDeleting:
		return "being deleted"
	case ReasonPoolOverlap:
		return fmt.Sprintf("overlaps an older pool (%q)", r.Other)
	case ReasonNotAutoAssign:
		return "autoAssign is false and the Service does not name it"
	case ReasonNamespaceNotAllowed:
		return "not for this namespace"
	case ReasonServiceNotSelected:
		return "its serviceSelectors do not match the Service's labels"
	case ReasonFamilyAbsent:
		return fmt.Sprintf("has no %s addresses", r.Family)
	case ReasonExhausted:
		if r.Blocked > 0 {
			return fmt.Sprintf("no free %s address (%d in use; nodes, other hosts or other Services have %d)", r.Family, r.Count, r.Blocked)
		}
		return fmt.Sprintf("no free %s address (%d in use)", r.Family, r.Count)
	case ReasonQuota:
		return fmt.Sprintf("the namespace has all %d addresses that it can have (maxPerNamespace)", r.Count)
	case ReasonAddressNotInPool:
		return "does not have the address" + parenthesis(r.Other)
	case ReasonFamilyMismatch:
		return fmt.Sprintf("the Service does not ask for %s (%s)", r.Family, r.Addr)
	case ReasonAddressInUse:
		return fmt.Sprintf("the address is in use (by %s)", r.By)
	case ReasonPortConflict, ReasonKeyDiffers, ReasonSharingNotAllowed, ReasonBackendsDiffer:
		return r.cannotShare()
	case ReasonAddressOfNode, ReasonAddressOfRouter, ReasonSubnetAddress, ReasonAddressOfService:
		b := Block{Reason: r.Reason, Holder: r.Other}
		return b.String() + "; " + b.Fix()
	case ReasonClaimNotFound:
		return fmt.Sprintf("there is no IPAddressClaim %s in the namespace", Quote(r.Other))
	case ReasonClaimInUse:
		return fmt.Sprintf("IPAddressClaim %s is in use by %s", Quote(r.Other), r.By)
	case ReasonClaimDeleting:
		return fmt.Sprintf("IPAddressClaim %s is being deleted", Quote(r.Other))
	case ReasonClaimPending:
		return fmt.Sprintf("IPAddressClaim %s has no address itself yet", Quote(r.Other))
	case ReasonClaimLacksFamily:
		return fmt.Sprintf("IPAddressClaim %s keeps no %s address", Quote(r.Other), r.Family)
	default:
		return r.Reason.Words()
	}
}

// cannotShare says why an address cannot be shared with who has it.
func (r Refusal) cannotShare() string {
	why := ""
	switch r.Reason {
	case ReasonPortConflict:
		why = fmt.Sprintf("%s uses %s too", r.By, r.Port)
	case ReasonKeyDiffers:
		why = fmt.Sprintf("the allow-shared-ip key of %s is another", r.By)
	case ReasonSharingNotAllowed:
		why = fmt.Sprintf("with %s, as the pool's sharing is %s", r.By, r.Other)
	case ReasonBackendsDiffer:
		why = fmt.Sprintf("externalTrafficPolicy and, if it is Local, the selector of %s differ", r.By)
	}
	return fmt.Sprintf("%s cannot be shared: %s", r.Addr, why)
}

func parenthesis(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}
