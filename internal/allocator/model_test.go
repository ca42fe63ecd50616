package allocator

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// model is the allocator's rules written down in the most naive way: it looks
// at every address and every holder, every time.
type model struct {
	pools    []lb.Pool
	requests map[lb.Holder]lb.Request
	held     map[lb.Holder][]netip.Addr
	leaving  map[lb.Holder][]netip.Addr
	refused  map[lb.Holder]map[lb.Family]bool
	lent     map[lb.Holder]lb.Holder         // claim -> Service
	from     map[netip.Addr]string           // assigned address -> its pool
	cooling  map[string]map[netip.Addr]freed // by pool
	unsaid   map[lb.Holder]bool              // claims whose status does not have their addresses
	freed    int
}

// freed is when an address was given back, and the how manieth it was.
type freed struct {
	at  time.Time
	nth int
}

func newModel() *model {
	return &model{
		requests: map[lb.Holder]lb.Request{}, held: map[lb.Holder][]netip.Addr{}, leaving: map[lb.Holder][]netip.Addr{},
		refused: map[lb.Holder]map[lb.Family]bool{}, lent: map[lb.Holder]lb.Holder{}, from: map[netip.Addr]string{},
		cooling: map[string]map[netip.Addr]freed{}, unsaid: map[lb.Holder]bool{},
	}
}

func (m *model) pool(name string) *lb.Pool {
	for i := range m.pools {
		if m.pools[i].Name == name {
			return &m.pools[i]
		}
	}
	return nil
}

// at returns who has the address, or is about to lose it.
func (m *model) at(a netip.Addr) (out []lb.Holder) {
	for h := range m.requests {
		if slices.Contains(m.held[h], a) || slices.Contains(m.leaving[h], a) {
			out = append(out, h)
		}
	}
	return out
}

// lender returns the claim that has lent the Service the address.
func (m *model) lender(h lb.Holder, a netip.Addr) (lb.Holder, bool) {
	for _, o := range m.at(a) {
		if o.Kind == lb.KindClaim && m.lent[o] == h {
			return o, true
		}
	}
	return lb.Holder{}, false
}

// overlapped reports whether an older pool in force shares an address with p.
func (m *model) overlapped(p lb.Pool) bool {
	for _, o := range m.pools {
		older := cmp.Or(o.Created.Compare(p.Created), cmp.Compare(o.Name, p.Name)) < 0
		if o.Deleting != p.Deleting { // one that goes makes way
			older = p.Deleting
		}
		if older && !m.overlapped(o) && slices.ContainsFunc(addresses(o), p.Contains) {
			return true
		}
	}
	return false
}

func addresses(p lb.Pool) []netip.Addr {
	var out []netip.Addr
	for _, r := range p.Ranges {
		for a := r.From; ; a = a.Next() {
			out = append(out, a)
			if a == r.To {
				break
			}
		}
	}
	return out
}

// compatible reports whether two Services can be at one address.
func compatible(x, y lb.Request) bool {
	return x.ShareKey != "" && x.ShareKey == y.ShareKey && x.Backends == y.Backends &&
		!slices.ContainsFunc(x.Ports, func(p lb.Port) bool { return slices.Contains(y.Ports, p) })
}

// may reports whether the holder can be at the address with those who are.
func (m *model) may(h lb.Holder, req lb.Request, a netip.Addr, stays bool) bool {
	p := m.inForce(a)
	for _, o := range m.at(a) {
		theirs := m.requests[o]
		switch {
		case o == h || stays && !slices.Contains(m.held[o], a):
		case stays && (m.lent[o] == h || m.lent[h] == o):
		case h.Kind == lb.KindClaim && o.Kind == lb.KindService:
			if _, lent := m.lent[h]; lent || o.Namespace != h.Namespace || theirs.Claim != h.Name || theirs.ShareKey != "" || !slices.Contains(m.held[o], a) {
				return false
			}
		case !slices.Contains(m.held[o], a):
			return false
		case h.Kind == lb.KindClaim || o.Kind == lb.KindClaim || !compatible(req, theirs):
			return false
		case stays || slices.Contains(m.at(a), h):
		case p == nil || p.Sharing == lb.SharingNever || p.Sharing == lb.SharingNamespace && o.Namespace != h.Namespace:
			return false
		}
	}
	return true
}

// inForce returns the pool that gives the address.
func (m *model) inForce(a netip.Addr) *lb.Pool {
	for i := range m.pools {
		if m.pools[i].Contains(a) && !m.overlapped(m.pools[i]) {
			return &m.pools[i]
		}
	}
	return nil
}

// full reports whether the namespace can have no other address of the pool.
func (m *model) full(p lb.Pool, h lb.Holder, f lb.Family, next []netip.Addr) bool {
	n := 0
	for a, from := range m.from {
		var mates []lb.Holder
		for _, o := range m.at(a) {
			if _, borrowed := m.lender(o, a); o.Namespace == h.Namespace && !borrowed {
				mates = append(mates, o)
			}
		}
		gone := lb.FamilyOf(a) == f && len(mates) == 1 && mates[0] == h
		if from == p.Name && len(mates) > 0 && !gone {
			n++
		}
	}
	for _, a := range next {
		if q := m.inForce(a); q != nil && q.Name == p.Name && !m.seated(h, a) {
			n++
		}
	}
	return p.MaxPerNamespace > 0 && n >= p.MaxPerNamespace
}

// seated reports whether somebody of the namespace has the address.
func (m *model) seated(h lb.Holder, a netip.Addr) bool {
	return slices.ContainsFunc(m.at(a), func(o lb.Holder) bool { return o.Namespace == h.Namespace })
}

// pick returns the address that the request is to get, if any, and its pool.
func (m *model) pick(h lb.Holder, req lb.Request, f lb.Family, next []netip.Addr, now time.Time) (netip.Addr, string) {
	if req.Claim != "" {
		claim := lb.Claim(h.Namespace, req.Claim)
		user, lent := m.lent[claim]
		for _, a := range m.held[claim] {
			if lb.FamilyOf(a) == f && (user == h || !lent && !m.requests[claim].Deleting) && !m.unsaid[claim] {
				return a, m.from[a]
			}
		}
		return netip.Addr{}, ""
	}
	if req.Deleting {
		return netip.Addr{}, ""
	}
	for _, p := range m.asked() {
		want, exact := req.Exact(f)
		named := req.Pool == p.Name
		if req.Pool != "" && !named || p.Disabled || p.Deleting || m.overlapped(p) || !p.AutoAssign && !named && !exact {
			continue
		}
		if len(p.Namespaces) > 0 && !slices.Contains(p.Namespaces, h.Namespace) {
			continue
		}
		var best netip.Addr
		for _, a := range addresses(p) {
			users := m.at(a)
			switch {
			case lb.FamilyOf(a) != f || exact && a != want || !m.may(h, req, a, false):
			case len(users) == 0 && p.AvoidBuggyIPs && lb.Buggy(a):
			case !m.seated(h, a) && m.full(p, h, f, next):
			case !exact && len(users) > 0 && req.ShareKey == "" && !slices.Contains(m.leaving[h], a):
			case !best.IsValid() || m.before(p.Name, h, a, best, now):
				best = a
			}
		}
		if best.IsValid() {
			return best, p.Name
		}
	}
	return netip.Addr{}, ""
}

// before reports whether the pool gives a before b: what the holder is about to
// lose first, then those to share, then those not cooling, each by address; then those that cooled longest.
func (m *model) before(pool string, h lb.Holder, a, b netip.Addr, now time.Time) bool {
	sharedA, sharedB := len(m.at(a)) > 0, len(m.at(b)) > 0
	fa, coolA := m.cooling[pool][a]
	fb, coolB := m.cooling[pool][b]
	coolA, coolB = coolA && now.Sub(fa.at) < cooldown, coolB && now.Sub(fb.at) < cooldown
	lostA, lostB := slices.Contains(m.leaving[h], a), slices.Contains(m.leaving[h], b)
	switch {
	case lostA || lostB:
		return lostA && (!lostB || slices.Index(m.leaving[h], a) < slices.Index(m.leaving[h], b))
	case sharedA != sharedB:
		return sharedA
	case sharedA:
		return a.Less(b)
	case coolA != coolB:
		return coolB
	case coolA:
		return fa.nth < fb.nth
	default:
		return a.Less(b)
	}
}

func (m *model) asked() []lb.Pool {
	return slices.SortedFunc(slices.Values(m.pools), func(x, y lb.Pool) int {
		rank := func(p lb.Pool) int {
			if p.Priority == 0 {
				return 1 << 30
			}
			return p.Priority
		}
		return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(len(y.Namespaces), len(x.Namespaces)), cmp.Compare(x.Name, y.Name))
	})
}

// attribute moves assigned addresses to the pool that has them now.
func (m *model) attribute() {
	for a, name := range m.from {
		if p := m.pool(name); p != nil && p.Contains(a) && !m.overlapped(*p) {
			continue
		}
		if p := m.inForce(a); p != nil {
			m.from[a] = p.Name
		}
	}
}

// inUse returns the pool if somebody has addresses of it.
func (m *model) inUse(name string) (lb.Pool, bool) {
	for _, from := range m.from {
		if p := m.pool(name); from == name && p != nil {
			return *p, true
		}
	}
	return lb.Pool{}, false
}

// asks reports whether the request asks for another address in place of a.
func (m *model) asks(h lb.Holder, req, last lb.Request, a netip.Addr) bool {
	lender, borrowed := m.lender(h, a)
	_, lent := m.lent[h]
	want, exact := req.Exact(lb.FamilyOf(a))
	switch {
	case lent:
		return false
	case req.Claim != "":
		return !borrowed || lender.Name != req.Claim
	case borrowed:
		return true
	case exact:
		return want != a
	default:
		return req.Pool != "" && m.from[a] != req.Pool && (last.Pool != req.Pool || m.refused[h][lb.FamilyOf(a)])
	}
}

// decide does for one holder what can be done, and reports whether its
// addresses changed.
func (m *model) decide(h lb.Holder, req lb.Request, now time.Time) bool {
	last := m.requests[h]
	m.requests[h] = req
	m.inherit(h, req)
	had := m.held[h]
	refused := map[lb.Family]bool{}
	picked := map[netip.Addr]string{}
	var next []netip.Addr
	for _, a := range req.Addresses {
		if !slices.Contains(req.Families, lb.FamilyOf(a)) {
			refused[lb.FamilyOf(a)] = true
		}
	}
	for _, f := range req.Families {
		i := slices.IndexFunc(had, func(a netip.Addr) bool { return lb.FamilyOf(a) == f })
		may := i >= 0 && m.may(h, req, had[i], true)
		if may && !m.asks(h, req, last, had[i]) {
			next = append(next, had[i])
			continue
		}
		a, pool := m.pick(h, req, f, next, now)
		switch {
		case pool != "":
			next = append(next, a)
			picked[a] = pool
		case may:
			next = append(next, had[i])
			refused[f] = true
		default:
			refused[f] = true
		}
	}
	if req.RequireAll && len(next) < len(req.Families) && len(had) == 0 {
		next, picked = nil, nil
	}
	m.exchange(h, next, picked)
	m.refused[h] = refused
	return !slices.Equal(had, next)
}

// exchange makes next what the holder has.
func (m *model) exchange(h lb.Holder, next []netip.Addr, picked map[netip.Addr]string) {
	for _, a := range m.held[h] {
		if !slices.Contains(next, a) && !slices.Contains(m.leaving[h], a) {
			m.leaving[h] = append(m.leaving[h], a)
		}
	}
	m.leaving[h] = slices.DeleteFunc(m.leaving[h], func(a netip.Addr) bool { return slices.Contains(next, a) })
	m.unsaid[h] = m.unsaid[h] || h.Kind == lb.KindClaim && len(picked) > 0
	for a, pool := range picked {
		m.from[a] = pool
		for _, o := range m.at(a) {
			switch {
			case o != h && o.Kind == lb.KindClaim:
				m.lent[o] = h
			case o != h && h.Kind == lb.KindClaim:
				m.lent[h] = o
			}
		}
	}
	m.held[h] = next
}

// inherit makes the addresses of a claim that goes the Service's that had them
// and no longer names the claim.
func (m *model) inherit(h lb.Holder, req lb.Request) {
	for _, a := range m.held[h] {
		if lender, ok := m.lender(h, a); ok && m.requests[lender].Deleting && req.Claim != lender.Name {
			m.held[lender] = slices.DeleteFunc(slices.Clone(m.held[lender]), func(o netip.Addr) bool { return o == a })
		}
	}
	m.endLoans()
}

// endLoans ends the loans of claims of which the Service has nothing any more.
func (m *model) endLoans() {
	for claim, h := range m.lent {
		if !slices.ContainsFunc(slices.Concat(m.held[h], m.leaving[h]), func(a netip.Addr) bool { return slices.Contains(m.held[claim], a) }) {
			delete(m.lent, claim)
		}
	}
}

// written frees what the holder gave up.
func (m *model) written(h lb.Holder, now time.Time) {
	left := m.leaving[h]
	delete(m.leaving, h)
	delete(m.unsaid, h)
	m.endLoans()
	m.free(left, now)
}

// free cools the addresses that nobody has any more.
func (m *model) free(addrs []netip.Addr, now time.Time) {
	for _, a := range addrs {
		if len(m.at(a)) > 0 {
			continue
		}
		delete(m.from, a)
		m.freed++
		if p := m.inForce(a); p != nil {
			m.cooling[p.Name][a] = freed{now, m.freed}
		}
	}
}

// release forgets the holder.
func (m *model) release(h lb.Holder, now time.Time) {
	had := slices.Concat(m.held[h], m.leaving[h])
	heir, lent := m.lent[h]
	delete(m.held, h)
	delete(m.leaving, h)
	delete(m.refused, h)
	delete(m.unsaid, h)
	delete(m.requests, h)
	delete(m.lent, h)
	m.endLoans()
	m.free(had, now)
	if lent {
		m.decide(heir, m.requests[heir], now)
	}
}

// settle serves who waits, oldest first, until nothing changes any more.
func (m *model) settle(now time.Time) {
	for changed := true; changed; {
		changed = false
		for _, h := range m.byAge() {
			if len(m.refused[h]) > 0 && m.decide(h, m.requests[h], now) {
				changed = true
				break
			}
		}
	}
}

func (m *model) byAge() []lb.Holder {
	var keys []lb.Holder
	for k := range m.requests {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(x, y lb.Holder) int {
		return cmp.Or(m.requests[x].Created.Compare(m.requests[y].Created), x.Compare(y))
	})
	return keys
}
