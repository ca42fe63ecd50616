package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Community parses "65000:1", "large:65000:1:2" or a well-known name such as
// "no-export".
func Community(s string) (lb.Community, error) {
	if c, ok := lb.WellKnownCommunities[s]; ok {
		return c, nil
	}
	if large, ok := strings.CutPrefix(s, "large:"); ok {
		return largeCommunity(s, large)
	}
	parts := strings.Split(s, ":")
	switch len(parts) {
	case 2:
		return standardCommunity(s, parts)
	case 3:
		if _, err := parseNumbers(parts, 32); err == nil {
			return lb.Community{}, fmt.Errorf("%q has three numbers; write \"large:%s\" for a large community", s, s)
		}
	}
	return lb.Community{}, fmt.Errorf("%q is not a community; write two numbers like \"65000:1\", three like \"large:65000:1:2\", or one of %s",
		s, strings.Join(slices.Sorted(maps.Keys(lb.WellKnownCommunities)), ", "))
}

func standardCommunity(s string, parts []string) (lb.Community, error) {
	n, err := parseNumbers(parts, 16)
	if err == nil {
		return lb.Community{A: n[0], B: n[1]}, nil
	}
	if _, large := parseNumbers(parts, 32); large == nil {
		return lb.Community{}, fmt.Errorf("%q has a number above 65535, the maximum of each half; write a large community instead, such as \"large:%s:0\"", s, s)
	}
	return lb.Community{}, fmt.Errorf("%q is not a community: %w; write two numbers like \"65000:1\"", s, err)
}

func largeCommunity(s, numbers string) (lb.Community, error) {
	parts := strings.Split(numbers, ":")
	if len(parts) != 3 {
		return lb.Community{}, fmt.Errorf("%q has %d numbers, and a large community has three; write for example \"large:65000:1:2\"", s, len(parts))
	}
	n, err := parseNumbers(parts, 32)
	if err != nil {
		return lb.Community{}, fmt.Errorf("%q is not a community: %w; write three numbers up to 4294967295, like \"large:65000:1:2\"", s, err)
	}
	return lb.Community{Large: true, A: n[0], B: n[1], C: n[2]}, nil
}

func parseNumbers(parts []string, bits int) ([]uint32, error) {
	out := make([]uint32, len(parts))
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, bits)
		if err != nil {
			return nil, fmt.Errorf("%q is not a number of %d bits", p, bits)
		}
		out[i] = uint32(n)
	}
	return out, nil
}

// Communities parses a list of communities and of aliases, which the Community
// objects define. The result is sorted, each community once.
func Communities(texts []string, aliases map[string]lb.Community) ([]lb.Community, error) {
	var out []lb.Community
	for i, s := range texts {
		if c, ok := aliases[s]; ok {
			out = append(out, c)
			continue
		}
		c, err := Community(s)
		if err != nil {
			if isAlias(s) {
				return nil, fmt.Errorf("[%d]: no Community defines the alias %q; define it there, or write the community itself, such as \"65000:1\"", i, s)
			}
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		out = append(out, c)
	}
	return lb.UniteCommunities(out), nil
}

// isAlias reports whether s looks like a name.
func isAlias(s string) bool {
	return s != "" && s[0] >= 'a' && s[0] <= 'z' && !strings.Contains(s, ":")
}
