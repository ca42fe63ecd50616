package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Range parses "192.0.2.0/24", "192.0.2.10-192.0.2.20" or a single address.
func Range(s string) (lb.Range, error) {
	s = strings.TrimSpace(s)
	if first, last, ok := strings.Cut(s, "-"); ok {
		return parseFirstLast(s, strings.TrimSpace(first), strings.TrimSpace(last))
	}
	if strings.Contains(s, "/") {
		return parseCIDR(s)
	}
	a, err := Address(s)
	if err != nil {
		return lb.Range{}, err
	}
	return lb.Range{From: a, To: a}, nil
}

func parseFirstLast(s, first, last string) (lb.Range, error) {
	from, err := Address(first)
	if err != nil {
		return lb.Range{}, err
	}
	to, err := Address(last)
	if err != nil {
		return lb.Range{}, err
	}
	switch {
	case from.BitLen() != to.BitLen():
		return lb.Range{}, fmt.Errorf("%s mixes IPv4 and IPv6; write a range for each", lb.Quote(s))
	case to.Less(from):
		return lb.Range{}, fmt.Errorf("%s ends before it begins; write %s", lb.Quote(s), lb.Quote(last+"-"+first))
	}
	return lb.Range{From: from, To: to}, nil
}

func parseCIDR(s string) (lb.Range, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return lb.Range{}, fmt.Errorf("%s is not a CIDR; write for example \"192.0.2.0/24\" or \"192.0.2.10-192.0.2.20\"", lb.Quote(s))
	}
	if p.Addr().Is4In6() {
		return lb.Range{}, fmt.Errorf("%s is an IPv4-mapped IPv6 prefix; write it as IPv4", lb.Quote(s))
	}
	if p != p.Masked() {
		return lb.Range{}, fmt.Errorf("%s has host bits set; write %q", lb.Quote(s), p.Masked())
	}
	r := netipx.RangeOfPrefix(p)
	return lb.Range{From: r.From(), To: r.To()}, nil
}

// Address parses an IPv4 or IPv6 address without a zone.
func Address(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return netip.Addr{}, fmt.Errorf("%s is not an IP address", lb.Quote(s))
	case a.Zone() != "":
		return netip.Addr{}, fmt.Errorf("%s has a zone; write it as %s", lb.Quote(s), a.WithZone(""))
	}
	return a.Unmap(), nil
}

// Addresses parses a comma-separated list of addresses, at most one per family,
// as the loadBalancerIPs annotation has it. Empty parts, as after a trailing comma, are
// ignored, and so is an address that is there twice.
func Addresses(s string) ([]netip.Addr, error) {
	var out []netip.Addr
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		a, err := Address(part)
		if err != nil {
			return nil, err
		}
		if slices.Contains(out, a) {
			continue
		}
		for _, have := range out {
			if have.BitLen() == a.BitLen() {
				return nil, fmt.Errorf("%s has two %s addresses; a Service can have one of each family", lb.Quote(s), lb.FamilyOf(a))
			}
		}
		out = append(out, a)
	}
	return out, nil
}

// PoolRanges parses a pool's addresses and takes its excludes out. The result
// is sorted and disjoint; ranges that touch are one.
func PoolRanges(addresses, excludes []string) ([]lb.Range, error) {
	var b netipx.IPSetBuilder
	for i, s := range addresses {
		r, err := Range(s)
		if err != nil {
			return nil, fmt.Errorf("spec.addresses[%d]: %w", i, err)
		}
		b.AddRange(netipx.IPRangeFrom(r.From, r.To))
	}
	for i, s := range excludes {
		r, err := Range(s)
		if err != nil {
			return nil, fmt.Errorf("spec.excludes[%d]: %w", i, err)
		}
		b.RemoveRange(netipx.IPRangeFrom(r.From, r.To))
	}
	set, err := b.IPSet()
	if err != nil {
		return nil, fmt.Errorf("spec.addresses: %w", err)
	}
	out := make([]lb.Range, 0, len(set.Ranges()))
	for _, r := range set.Ranges() {
		out = append(out, lb.Range{From: r.From(), To: r.To()})
	}
	return out, nil
}
