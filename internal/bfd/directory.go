package bfd

import (
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/internal/bfd/session"
)

// directory finds the session that a packet is for (RFC 5880, 6.3 and 6.8.6).
type directory struct {
	byDiscriminator map[uint32]*peer
	byAddress       map[addressKey][]*peer
}

type addressKey struct {
	socket socketKey
	peer   netip.Addr
}

func newDirectory() directory {
	return directory{byDiscriminator: map[uint32]*peer{}, byAddress: map[addressKey][]*peer{}}
}

func (d *directory) add(p *peer) {
	d.byDiscriminator[p.session.Discriminator()] = p
	k := addressKey{p.path.socket, p.path.peer}
	d.byAddress[k] = append(d.byAddress[k], p)
}

func (d *directory) remove(p *peer) {
	delete(d.byDiscriminator, p.session.Discriminator())
	k := addressKey{p.path.socket, p.path.peer}
	d.byAddress[k] = slices.DeleteFunc(d.byAddress[k], func(o *peer) bool { return o == p })
	if len(d.byAddress[k]) == 0 {
		delete(d.byAddress, k)
	}
}

// find returns the session, or nil. Once the peer knows our discriminator,
// nothing else counts (RFC 5880, 6.3), but that it came over as many hops as the
// session may have. Before, the addresses do, and the interface (RFC 5881, 3);
// of several sessions the one that is most particular.
func (d *directory) find(socket socketKey, from datagram, yours uint32) *peer {
	if yours != 0 {
		p := d.byDiscriminator[yours]
		if p == nil || p.path.socket != socket {
			return nil
		}
		return p
	}
	var best *peer
	for _, p := range d.byAddress[addressKey{socket, from.From}] {
		if p.accepts(from) && (best == nil || p.particular() > best.particular()) {
			best = p
		}
	}
	return best
}

// accepts is whether a packet that came to that address, by that interface, may
// begin the session.
func (p *peer) accepts(d datagram) bool {
	return (!p.path.local.IsValid() || p.path.local == d.To) && (p.path.device == "" || p.ifindex == d.Interface)
}

func (p *peer) particular() (n int) {
	if p.path.local.IsValid() {
		n++
	}
	if p.path.device != "" {
		n += 2
	}
	return n
}

// discard counts a packet that is discarded.
func (l *loop) discard(f session.Fault) { l.refused[f]++ }
