package bfd

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/fairlead-lb/fairlead/internal/bfd/session"
)

// Defaults of a SessionSpec, as in BFDProfile.
const (
	DefaultInterval         = 300 * time.Millisecond
	DefaultDetectMultiplier = 3
	DefaultMinimumTTL       = 254
)

const (
	// shortest is the least interval that a session may have: what the timers of
	// an ordinary kernel can do.
	shortest = time.Millisecond
	longest  = math.MaxUint32 * time.Microsecond // RFC 5880, 4.1: 32 bits
)

// Key identifies a session.
type Key struct {
	Peer netip.Addr // with a zone, or Interface set, when it is link-local
	// Local is the address to send from, at which packets must arrive. Not valid:
	// the kernel chooses, and any will do.
	Local netip.Addr
	// Interface is the one to send by. A peer that does not know the session yet
	// must arrive there. Empty: whichever the kernel's routes say.
	Interface string
	// VRF is the device of the VRF that the peer is in. Empty: the default.
	VRF string
	// MultiHop is whether there may be routers on the way (RFC 5883). If not, a
	// packet that crossed one is refused (RFC 5881, 5).
	MultiHop bool
}

func (k Key) String() string {
	s := k.Peer.String()
	if k.Local.IsValid() {
		s += " from " + k.Local.String()
	}
	if k.Interface != "" {
		s += " by " + k.Interface
	}
	if k.VRF != "" {
		s += " in " + k.VRF
	}
	if k.MultiHop {
		s += " (multihop)"
	}
	return s
}

func (k Key) compare(o Key) int {
	hops := 0
	if k.MultiHop != o.MultiHop {
		hops = -1
		if k.MultiHop {
			hops = 1
		}
	}
	return cmp.Or(k.Peer.Compare(o.Peer), k.Local.Compare(o.Local), cmp.Compare(k.Interface, o.Interface), cmp.Compare(k.VRF, o.VRF), hops)
}

// SessionSpec is a session as it should be. All but the Key may change while the
// session stays up. A zero is the default.
type SessionSpec struct {
	Key
	TransmitInterval time.Duration // RFC 5880, 6.8.1: bfd.DesiredMinTxInterval
	ReceiveInterval  time.Duration // RFC 5880, 6.8.1: bfd.RequiredMinRxInterval
	DetectMultiplier uint8         // RFC 5880, 6.8.1: bfd.DetectMult
	Passive          bool          // wait to be spoken to (RFC 5880, 6.1)
	// MinimumTTL is the least TTL of packets that are accepted in a multihop
	// session. In others it is always 255.
	MinimumTTL uint8
	// AdminDown holds the session down, and tells the peer so (RFC 5880, 6.8.16).
	AdminDown bool
}

func (s SessionSpec) withDefaults() SessionSpec {
	s.Peer, s.Local = s.Peer.Unmap(), s.Local.Unmap()
	if s.TransmitInterval == 0 {
		s.TransmitInterval = DefaultInterval
	}
	if s.ReceiveInterval == 0 {
		s.ReceiveInterval = DefaultInterval
	}
	if s.DetectMultiplier == 0 {
		s.DetectMultiplier = DefaultDetectMultiplier
	}
	if s.MinimumTTL == 0 {
		s.MinimumTTL = DefaultMinimumTTL
	}
	return s
}

func (s SessionSpec) params() session.Params {
	return session.Params{
		DesiredMinTx: s.TransmitInterval, RequiredMinRx: s.ReceiveInterval, DetectMult: s.DetectMultiplier, Passive: s.Passive,
	}
}

// path is a Key in the one form that it has for the kernel: a zone is an
// interface.
type path struct {
	socket      socketKey
	peer, local netip.Addr // without zones
	device      string
}

// socketKey is what sessions share a receiving socket by.
type socketKey struct {
	ipv6     bool
	multiHop bool
	vrf      string
}

func (s SessionSpec) path() (path, error) {
	p := path{
		socket: socketKey{ipv6: s.Peer.Is6(), multiHop: s.MultiHop, vrf: s.VRF},
		peer:   s.Peer.WithZone(""), local: s.Local.WithZone(""), device: s.Interface,
	}
	for _, a := range []netip.Addr{s.Peer, s.Local} {
		if zone := a.Zone(); zone != "" && p.device != "" && zone != p.device {
			return path{}, fmt.Errorf("zone of %s is not interface %s", a, p.device)
		} else if zone != "" {
			p.device = zone
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"transmit", s.TransmitInterval}, {"receive", s.ReceiveInterval}} {
		if d.value < shortest || d.value > longest {
			return path{}, fmt.Errorf("%s interval %v is not within %v and %v", d.name, d.value, shortest, longest)
		}
	}
	switch {
	case !p.peer.IsValid() || p.peer.IsUnspecified() || p.peer.IsMulticast():
		return path{}, fmt.Errorf("peer %v is not the address of a host", p.peer)
	case p.local.IsValid() && p.local.Is6() != p.peer.Is6():
		return path{}, fmt.Errorf("peer %v and local address %v are of two families", p.peer, p.local)
	case p.peer.IsLinkLocalUnicast() && p.peer.Is6() && p.device == "":
		return path{}, fmt.Errorf("peer %v is link-local: name its interface", p.peer)
	case p.peer.IsLinkLocalUnicast() && s.MultiHop:
		return path{}, fmt.Errorf("peer %v is link-local: it cannot be several hops away", p.peer)
	}
	return p, nil
}

// accept returns the specs that can be had, by key, and says what is wrong with
// the others.
func accept(specs []SessionSpec) (map[Key]SessionSpec, error) {
	accepted := make(map[Key]SessionSpec, len(specs))
	taken := make(map[path]Key, len(specs))
	var errs []error
	for _, s := range specs {
		key := s.Key
		s = s.withDefaults()
		p, err := s.path()
		if other, twice := taken[p]; err == nil && twice {
			err = fmt.Errorf("is the same as %v", other)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("BFD session with %v: %w", key, err))
			continue
		}
		taken[p], accepted[key] = key, s
	}
	return accepted, errors.Join(errs...)
}
