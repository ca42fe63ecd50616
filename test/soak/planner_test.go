package soak

import (
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-lb/fairlead/test/lab"
)

var testSite = Site{Nodes: []string{"n1", "n2", "n3", "n4", "n5"}, Routers: []string{"r2", "r3"}, Controllers: 2, Services: 4}

func rounds(t *testing.T, seed uint64, n int, without ...string) (out []Round) {
	t.Helper()
	p, err := NewPlanner(seed, testSite, without...)
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		out = append(out, p.Next())
	}
	return out
}

func told(rounds []Round) (out []string) {
	for _, r := range rounds {
		out = append(out, r.String())
	}
	return out
}

func TestFaultsAreAFunctionOfTheSeed(t *testing.T) {
	one, same, other := told(rounds(t, 7, 50)), told(rounds(t, 7, 50)), told(rounds(t, 8, 50))
	if !slices.Equal(one, same) {
		t.Error("the same seed made other faults")
	}
	if slices.Equal(one, other) {
		t.Error("another seed made the same faults")
	}
}

func TestPlan(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rounds(t, 1, 500) {
		broken := map[string]bool{}
		if len(r.Faults) == 0 || r.Lossless && len(r.Faults) != 1 {
			t.Errorf("%v: want at least one fault, and one in a lossless round", r)
		}
		for _, f := range r.Faults {
			name, _, _ := strings.Cut(f.Fault.String(), " ")
			seen[name] = true
			if f.To <= f.From {
				t.Errorf("%v: %v heals before it breaks", r, f.Fault)
			}
			for _, target := range f.Targets() {
				if broken[target] {
					t.Errorf("%v: %s is broken twice", r, target)
				}
				broken[target] = true
			}
		}
		steps := r.steps()
		if len(steps) != 2*len(r.Faults) || !slices.IsSortedFunc(steps, func(a, b step) int { return int(a.at - b.at) }) {
			t.Errorf("%v has the steps %v", r, steps)
		}
	}
	for _, k := range allKinds {
		if !seen[k.name] {
			t.Errorf("no round of 500 has a %s", k.name)
		}
	}
}

func TestKindsCanBeLeftOut(t *testing.T) {
	for _, r := range rounds(t, 1, 200, "RogueRouter", "ForgeARP") {
		if text := r.String(); strings.Contains(text, "RogueRouter") || strings.Contains(text, "ForgeARP") {
			t.Errorf("%s: want neither of the two", text)
		}
	}
	if _, err := NewPlanner(1, testSite, kindNames()...); err == nil {
		t.Error("all kinds were left out, want an error")
	}
	if _, err := NewPlanner(1, testSite, "Meteorite"); err == nil || !strings.Contains(err.Error(), "Meteorite") || !strings.Contains(err.Error(), "PullCable") {
		t.Errorf("got %v, want an error that names the kinds", err)
	}
}

func TestPartitionsHaveTwoSides(t *testing.T) {
	for _, r := range rounds(t, 3, 500) {
		for _, f := range r.Faults {
			p, ok := f.Fault.(Partition)
			if !ok {
				continue
			}
			if len(p.One) == 0 || len(p.Other) == 0 || slices.ContainsFunc(p.One, func(n string) bool { return slices.Contains(p.Other, n) }) {
				t.Errorf("%v has no two sides", p)
			}
		}
	}
}

func TestRoutersGetPeersForAllNodes(t *testing.T) {
	for _, kind := range []lab.RouterKind{lab.FRR, lab.BIRD} {
		recipe, err := lab.Recipe(kind)
		if err != nil {
			t.Fatal(err)
		}
		config := withAllNodes(kind, recipe, 5)
		for _, peer := range []string{"172.30.0.11", "172.30.0.14", "172.30.0.15", "fd30::14", "fd30::15"} {
			if strings.Count(config, "neighbor "+peer+" ") != 1 {
				t.Errorf("%v: %s is not one neighbor of", kind, peer)
			}
		}
	}
}
