package importer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/config"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// mostRanges is how many ranges a pool of Fairlead's can have.
const mostRanges = 64

// addressRange returns a network or range in the form that Fairlead takes: without
// spaces, and without bits behind the prefix, which others ignore.
func addressRange(s string) (v1alpha1.AddressRange, error) {
	s = strings.ReplaceAll(s, " ", "")
	if p, err := netip.ParsePrefix(s); err == nil {
		s = p.Masked().String()
	}
	r, err := config.Range(s)
	if err != nil {
		return "", err
	}
	if strings.Contains(s, "/") {
		return v1alpha1.AddressRange(s), nil
	}
	return v1alpha1.AddressRange(rangeText(r)), nil
}

// rangeText writes a range; one address is a network of its own.
func rangeText(r lb.Range) string {
	if r.From == r.To {
		return netip.PrefixFrom(r.From, r.From.BitLen()).String()
	}
	return r.From.String() + "-" + r.To.String()
}

// addressRanges translates a list, and says what cannot be.
func addressRanges(list []string, field string, i *item) (out []v1alpha1.AddressRange) {
	for n, s := range list {
		r, err := addressRange(s)
		switch {
		case err != nil:
			i.note(fmt.Sprintf("%s[%d]", field, n), "left out: %v", err)
		case !slices.Contains(out, r):
			out = append(out, r)
		}
	}
	if len(out) > mostRanges {
		i.note(field, "there are %d ranges, and a pool of Fairlead's has at most %d; join neighbouring ones, or make two pools of it", len(out), mostRanges)
	}
	return out
}

// ends returns the first and the last address of a network, for those who leave
// them out; none for one that has no others.
func ends(s v1alpha1.AddressRange) []v1alpha1.AddressRange {
	p, err := netip.ParsePrefix(string(s))
	if err != nil || p.Addr().BitLen()-p.Bits() < 2 {
		return nil
	}
	r, err := config.Range(string(s))
	if err != nil {
		return nil
	}
	return []v1alpha1.AddressRange{
		v1alpha1.AddressRange(rangeText(lb.Range{From: r.From, To: r.From})),
		v1alpha1.AddressRange(rangeText(lb.Range{From: r.To, To: r.To})),
	}
}

// families reports which families the ranges have.
func families(ranges []v1alpha1.AddressRange) (v4, v6 bool) {
	for _, s := range ranges {
		if r, err := config.Range(string(s)); err == nil {
			v4, v6 = v4 || r.From.Is4(), v6 || r.From.Is6()
		}
	}
	return v4, v6
}
