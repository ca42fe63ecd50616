package ledger

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Source is an object that uses addresses, or a host that was seen on the network.
type Source struct{ Kind, Namespace, Name string }

// Compare orders sources by kind, namespace and name.
func (s Source) Compare(o Source) int {
	return cmp.Or(cmp.Compare(s.Kind, o.Kind), cmp.Compare(s.Namespace, o.Namespace), cmp.Compare(s.Name, o.Name))
}

// occupants are the addresses that are used by something else than a holder, by source.
// One address may have several: each node knows the broadcast address of its subnet.
type occupants struct {
	of map[Source][]lb.Blocked   // what each source says; nobody writes to it
	at map[netip.Addr][]occupant // sorted
}

type occupant struct {
	lb.Block
	from Source
}

func (o occupant) compare(p occupant) int {
	return cmp.Or(o.Block.Compare(p.Block), o.from.Compare(p.from))
}

func newOccupants() occupants {
	return occupants{of: map[Source][]lb.Blocked{}, at: map[netip.Addr][]occupant{}}
}

// set makes these the addresses that the source says are in use, and returns those of which
// something has changed.
func (o *occupants) set(from Source, now []lb.Blocked) (changed []netip.Addr) {
	before := o.of[from]
	if slices.Equal(before, now) {
		return nil
	}
	if o.of[from] = now; len(now) == 0 {
		delete(o.of, from)
	}
	for _, b := range before {
		if !slices.Contains(now, b) {
			o.remove(b.Addr, occupant{b.Block, from})
			changed = append(changed, b.Addr)
		}
	}
	for _, b := range now {
		if !slices.Contains(before, b) {
			o.add(b.Addr, occupant{b.Block, from})
			changed = append(changed, b.Addr)
		}
	}
	slices.SortFunc(changed, netip.Addr.Compare)
	return slices.Compact(changed)
}

func (o *occupants) add(a netip.Addr, x occupant) {
	list := o.at[a]
	if i, found := slices.BinarySearchFunc(list, x, occupant.compare); !found {
		o.at[a] = slices.Insert(list, i, x)
	}
}

func (o *occupants) remove(a netip.Addr, x occupant) {
	list := o.at[a]
	i, found := slices.BinarySearchFunc(list, x, occupant.compare)
	if !found {
		return
	}
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(o.at, a)
		return
	}
	o.at[a] = list
}

// blocks returns what has the address, sorted, each once.
func (o *occupants) blocks(a netip.Addr) (out []lb.Block) {
	for _, x := range o.at[a] {
		if n := len(out); n == 0 || out[n-1] != x.Block {
			out = append(out, x.Block)
		}
	}
	return out
}
