package soak

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Observation is what was seen at a moment at which nothing is broken.
type Observation struct {
	Nodes    []string
	Services []Service
	// Answers are the machines that answered ARP or NDP for each address that was asked
	// for: nodes by name, others by MAC. All addresses of the layer 2 pool are asked for.
	Asked   []netip.Addr
	Answers map[netip.Addr][]string
	// Routes are the next hops in each router's kernel, nodes by name.
	Routes   map[string]map[netip.Prefix][]string
	Speakers map[string]Speaker
	Unserved map[netip.Addr]string // addresses that gave a client no answer, and why
	Ended    []string              // speakers that ended without being told to
}

// Service is what the API server has of a Service.
type Service struct {
	Name      string
	UID       string
	Families  int // that it asks for
	BGP       bool
	Addresses []netip.Addr
	Assigned  Condition
	Announced Condition
}

// Condition is a condition of an object.
type Condition struct {
	True    bool
	Message string
}

// Speaker is what a speaker reports.
type Speaker struct {
	Ready   Condition
	Members int          // speakers that it takes to be alive
	Owns    []netip.Addr // that it answers for, by its object
}

// invariant returns what is wrong with an observation.
type invariant struct {
	name  string
	check func(*Observation) []string
}

// invariants hold whenever nothing is broken.
var invariants = []invariant{
	{"speakers run", speakersRun},
	{"speakers are ready", speakersReady},
	{"services have addresses", servicesHaveAddresses},
	{"no address is assigned twice", noAddressTwice},
	{"one node answers", oneNodeAnswers},
	{"objects name the node that answers", ownersAreTrue},
	{"routers have the routes", routesAreRight},
	{"conditions are true", conditionsAreTrue},
	{"clients are served", clientsAreServed},
}

// violations are all that is wrong.
func violations(o *Observation) (out []string) {
	for _, i := range invariants {
		for _, wrong := range i.check(o) {
			out = append(out, i.name+": "+wrong)
		}
	}
	return out
}

func speakersRun(o *Observation) []string { return o.Ended }

func speakersReady(o *Observation) (out []string) {
	for _, n := range o.Nodes {
		s, there := o.Speakers[n]
		switch {
		case !there:
			out = append(out, "there is no Speaker "+n)
		case !s.Ready.True:
			out = append(out, fmt.Sprintf("Speaker %s is not Ready: %s", n, s.Ready.Message))
		case s.Members != len(o.Nodes):
			out = append(out, fmt.Sprintf("speaker %s takes %d of %d speakers to be alive", n, s.Members, len(o.Nodes)))
		}
	}
	return out
}

func servicesHaveAddresses(o *Observation) (out []string) {
	if len(o.Services) == 0 {
		out = append(out, "there is no Service")
	}
	for _, s := range o.Services {
		if len(s.Addresses) != s.Families || !s.Assigned.True {
			out = append(out, fmt.Sprintf("%s wants %d addresses and has %v: %s", s.Name, s.Families, s.Addresses, s.Assigned.Message))
		}
	}
	return out
}

func noAddressTwice(o *Observation) (out []string) {
	of := map[netip.Addr]string{}
	for _, s := range o.Services {
		for _, a := range s.Addresses {
			if other, taken := of[a]; taken {
				out = append(out, fmt.Sprintf("%s has %s, and so has %s", s.Name, a, other))
			}
			of[a] = s.Name
		}
	}
	return out
}

// layer2 is all addresses that a node is to answer for.
func (o *Observation) layer2() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, s := range o.Services {
		for _, a := range s.Addresses {
			if !s.BGP {
				out[a] = true
			}
		}
	}
	return out
}

func oneNodeAnswers(o *Observation) (out []string) {
	wanted := o.layer2()
	for _, a := range o.Asked {
		who := o.Answers[a]
		switch {
		case !wanted[a] && len(who) > 0:
			out = append(out, fmt.Sprintf("%v answer for %s, which no Service has", who, a))
		case wanted[a] && len(who) != 1:
			out = append(out, fmt.Sprintf("%v answer for %s, want one node", who, a))
		case wanted[a] && !slices.Contains(o.Nodes, who[0]):
			out = append(out, fmt.Sprintf("%s answers for %s, want a node", who[0], a))
		}
		delete(wanted, a)
	}
	for a := range wanted {
		out = append(out, fmt.Sprintf("%s of a Service is none of the addresses that were asked for", a))
	}
	slices.Sort(out)
	return out
}

// ownersAreTrue compares what Speaker objects list with who answers.
func ownersAreTrue(o *Observation) (out []string) {
	for _, n := range o.Nodes {
		var answers []netip.Addr
		for _, a := range o.Asked {
			if slices.Contains(o.Answers[a], n) {
				answers = append(answers, a)
			}
		}
		owns := slices.SortedFunc(slices.Values(o.Speakers[n].Owns), netip.Addr.Compare)
		slices.SortFunc(answers, netip.Addr.Compare)
		if !slices.Equal(owns, answers) {
			out = append(out, fmt.Sprintf("Speaker %s lists %v, the node answers for %v", n, owns, answers))
		}
	}
	return out
}

func routesAreRight(o *Observation) (out []string) {
	if len(o.Routes) == 0 {
		out = append(out, "no router was looked at")
	}
	wanted := map[netip.Prefix]bool{}
	for _, s := range o.Services {
		for _, a := range s.Addresses {
			if s.BGP {
				wanted[netip.PrefixFrom(a, a.BitLen())] = true
			}
		}
	}
	for _, r := range slices.Sorted(maps.Keys(o.Routes)) {
		for p, via := range o.Routes[r] {
			if !wanted[p] {
				out = append(out, fmt.Sprintf("%s has a route to %s via %v, which no Service has", r, p, via))
			}
		}
		for p := range wanted {
			if via := o.Routes[r][p]; !slices.Equal(via, o.Nodes) {
				out = append(out, fmt.Sprintf("%s leads to %s via %v, want %v", r, p, via, o.Nodes))
			}
		}
	}
	slices.Sort(out)
	return out
}

// conditionsAreTrue compares the condition Announced with the wire: it is True, and of
// each address it names the node that answers or, for BGP, all nodes.
func conditionsAreTrue(o *Observation) (out []string) {
	for _, s := range o.Services {
		if !s.Announced.True {
			out = append(out, fmt.Sprintf("%s is not Announced: %s", s.Name, s.Announced.Message))
			continue
		}
		for _, a := range s.Addresses {
			want := o.Answers[a]
			if s.BGP {
				want = o.Nodes
			}
			if got := nodesNamed(s.Announced.Message, a, o.Nodes); !slices.Equal(got, want) {
				out = append(out, fmt.Sprintf("%s: the condition names %v for %s, want %v: %s", s.Name, got, a, want, s.Announced.Message))
			}
		}
	}
	return out
}

var words = regexp.MustCompile(`[A-Za-z0-9.:-]+`)

// nodesNamed are the nodes that a condition's message names in what it says of an
// address, up to the routers.
func nodesNamed(message string, a netip.Addr, nodes []string) (out []string) {
	for part := range strings.SplitSeq(message, ";") {
		all := words.FindAllString(part, -1)
		if !slices.Contains(all, a.String()) {
			continue
		}
		for _, w := range all {
			if slices.Contains(nodes, w) && !slices.Contains(out, w) {
				out = append(out, w)
			}
		}
	}
	slices.Sort(out)
	return out
}

func clientsAreServed(o *Observation) (out []string) {
	for a, why := range o.Unserved {
		out = append(out, fmt.Sprintf("%s: %s", a, why))
	}
	slices.Sort(out)
	return out
}

// renumbered compares the addresses of Services with those that they had when they
// first had any. A Service that was deleted and created is another one.
func renumbered(first map[string]Service, o *Observation) (out []string) {
	for _, s := range o.Services {
		if had, known := first[s.UID]; known && !slices.Equal(had.Addresses, s.Addresses) {
			out = append(out, fmt.Sprintf("nothing is renumbered: %s had %v and has %v", s.Name, had.Addresses, s.Addresses))
		}
	}
	return out
}
