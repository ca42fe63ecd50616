package plan

import (
	"cmp"
	"net/netip"
	"slices"
)

// Endpoint is where a speaker takes part in the gossip, as its Speaker object says.
type Endpoint struct {
	Node    string
	Addr    netip.AddrPort
	Created int64 // Unix time of the Speaker object
	Away    bool  // the speaker has stopped, or its node is down
}

// older reports whether a speaker has precedence over another.
func (e Endpoint) older(o Endpoint) bool {
	return cmp.Or(cmp.Compare(e.Created, o.Created), cmp.Compare(e.Node, o.Node)) < 0
}

// Standing is whether a speaker may take part, given the endpoints of all. Speakers that
// cannot talk to each other would all announce, so that only one side may.
type Standing struct {
	Out         bool     // another side announces
	Same        []string // nodes with the same endpoint, sorted
	Unreachable []string // nodes whose endpoint is of the other family, sorted
}

// Equal reports whether two are the same.
func (s Standing) Equal(o Standing) bool {
	return s.Out == o.Out && slices.Equal(s.Same, o.Same) && slices.Equal(s.Unreachable, o.Unreachable)
}

// StandingOf decides by what the API server has, and so every speaker decides the same: of
// those with one endpoint, the one whose Speaker is the oldest takes part; of two address
// families, the one of more speakers, and of two equals that of the oldest.
func StandingOf(self Endpoint, all []Endpoint) Standing {
	var s Standing
	balance, oldest := 1, self
	for _, e := range all {
		if e.Node == self.Node || e.Away {
			continue
		}
		if e.older(oldest) {
			oldest = e
		}
		switch {
		case e.Addr == self.Addr:
			s.Same = append(s.Same, e.Node)
			s.Out = s.Out || e.older(self)
			balance++
		case e.Addr.Addr().Is4() == self.Addr.Addr().Is4():
			balance++
		default:
			s.Unreachable = append(s.Unreachable, e.Node)
			balance--
		}
	}
	if balance < 0 || balance == 0 && oldest.Addr.Addr().Is4() != self.Addr.Addr().Is4() {
		s.Out = true
	}
	slices.Sort(s.Same)
	slices.Sort(s.Unreachable)
	return s
}
