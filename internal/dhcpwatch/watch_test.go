package dhcpwatch

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

// fakePools holds addresses.
type fakePools map[netip.Addr]string

func (p fakePools) Holder(a netip.Addr) (string, bool) {
	name, ok := p[a]
	return name, ok
}

// fakeConn is a conn by which a test sends messages.
type fakeConn struct {
	sent  chan message
	ended chan struct{}
	once  sync.Once
}

func newFakeConn() *fakeConn { return &fakeConn{sent: make(chan message), ended: make(chan struct{})} }

func (w *fakeConn) Next() (message, error) {
	select {
	case m := <-w.sent:
		return m, nil
	case <-w.ended:
		return message{}, net.ErrClosed
	}
}

func (w *fakeConn) Close() error {
	w.once.Do(func() { close(w.ended) })
	return nil
}

var (
	eth0 = netif.Interface{Name: "eth0", Index: 2, Up: true}
	eth1 = netif.Interface{Name: "eth1", Index: 3, Up: true}
)

// taken is the request of a host that selects the router's offer.
func taken(a netip.Addr, client string, xid uint32) message {
	return message{kind: request, xid: xid, client: client, addr: a, server: router}
}

// had is the request of a host for its former address.
func had(a netip.Addr, client string, xid uint32) message {
	return message{kind: request, xid: xid, client: client, addr: a}
}

func refused(client string, xid uint32) message {
	return message{kind: nak, xid: xid, client: client, server: router}
}

func sameLeases(want, got []lb.Lease) string {
	return cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty())
}

// A lease of a pool's address is listed at once, until leaseTimeout after the last message and
// as long as a pool contains the address; other leases are not kept.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeConn()
		w := New(logr.Discard())
		w.dial = func(netif.Interface) (conn, error) { return lan, nil }
		defer w.Close()
		pools := fakePools{given: "lan"}
		send := func(m message) (news bool) {
			t.Helper()
			lan.sent <- m
			synctest.Wait()
			select {
			case <-w.Changed():
				return true
			default:
				return false
			}
		}
		lists := func(want ...lb.Lease) {
			t.Helper()
			got, err := w.Follow([]netif.Interface{eth0}, pools)
			if diff := sameLeases(want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		}
		lists()

		outside := netip.MustParseAddr("192.0.2.16")
		if send(taken(outside, phone, 1)) {
			t.Error("a lease of an address that is in no pool is reported as a change")
		}
		pools = fakePools{given: "lan", outside: "wide"}
		lists() // it was not kept

		lease := lb.Lease{Addr: given, Pool: "lan", Server: router, Client: phone, Interface: "eth0"}
		if !send(taken(given, phone, 2)) {
			t.Error("a lease of a pool's address is not reported as a change")
		}
		lists(lease)
		time.Sleep(leaseTimeout - time.Second)
		if send(taken(given, phone, 3)) {
			t.Error("the same lease again is reported as a change")
		}
		time.Sleep(leaseTimeout - time.Second)
		lists(lease)
		time.Sleep(time.Second)
		lists()

		send(taken(given, phone, 4))
		pools = fakePools{given: "other"}
		lease.Pool = "other"
		lists(lease)
		pools = fakePools{}
		lists()
		pools = fakePools{given: "lan"}
		lists() // the lease was removed
	})
}

// Each case has the messages of a network and the leases that follow from them.
func TestLeases(t *testing.T) {
	lease := func(server netip.Addr, client, on string) lb.Lease {
		return lb.Lease{Addr: given, Pool: "lan", Server: server, Client: client, Interface: on}
	}
	type step struct {
		message
		on   string
		news bool
	}
	for name, tt := range map[string]struct {
		messages []step
		want     []lb.Lease
	}{
		"a host requests its former address, and the server is not known": {
			[]step{{had(given, phone, 1), "eth0", true}}, []lb.Lease{lease(netip.Addr{}, phone, "eth0")},
		},
		"a host that restarts: the server stays known": {
			[]step{{taken(given, phone, 1), "eth0", true}, {had(given, phone, 2), "eth0", false}}, []lb.Lease{lease(router, phone, "eth0")},
		},
		"the server is named later": {
			[]step{{had(given, phone, 1), "eth0", true}, {taken(given, phone, 2), "eth0", true}}, []lb.Lease{lease(router, phone, "eth0")},
		},
		"another host, of which the server is not known": {
			[]step{{taken(given, phone, 1), "eth0", true}, {had(given, tablet, 2), "eth0", true}}, []lb.Lease{lease(netip.Addr{}, tablet, "eth0")},
		},
		"two interfaces in one network": {
			[]step{{taken(given, phone, 1), "eth1", true}, {taken(given, phone, 1), "eth0", false}}, []lb.Lease{lease(router, phone, "eth1")},
		},
		"a host from another network, which is refused": {
			[]step{{had(given, phone, 1), "eth0", true}, {refused(phone, 1), "eth0", true}}, nil,
		},
		"a lease that is not given again": {
			[]step{{taken(given, phone, 1), "eth0", true}, {had(given, phone, 2), "eth0", false}, {refused(phone, 2), "eth0", true}}, nil,
		},
		"a refusal to another": {
			[]step{{taken(given, phone, 1), "eth0", true}, {refused(tablet, 1), "eth0", false}}, []lb.Lease{lease(router, phone, "eth0")},
		},
		"a refusal of something else": {
			[]step{{taken(given, phone, 1), "eth0", true}, {refused(phone, 2), "eth0", false}}, []lb.Lease{lease(router, phone, "eth0")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := leases{}
			for i, s := range tt.messages {
				if news := l.record(s.message, s.on, time.Now()); news != s.news {
					t.Errorf("step %d: news is %t, want %t", i, news, s.news)
				}
			}
			if diff := sameLeases(tt.want, l.list(fakePools{given: "lan"}, time.Now())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The number of leases is limited, and the latest are kept.
func TestLeasesAreBounded(t *testing.T) {
	l, pools, now := leases{}, fakePools{}, time.Now()
	var want []netip.Addr
	for i := range 3 * maxLeases {
		a := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		pools[a] = "lan"
		l.record(taken(a, phone, uint32(i)), "eth0", now.Add(time.Duration(i)*time.Second))
		if i >= 2*maxLeases {
			want = append(want, a)
		}
	}
	var got []netip.Addr
	for _, x := range l.list(pools, now) {
		got = append(got, x.Addr)
	}
	if !slices.Equal(got, want) {
		t.Errorf("leases of %v, want %v", got, want)
	}
}

// Follow listens on the given interfaces only, and reopens one that has failed.
func TestFollowOpensAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := map[string]*fakeConn{}
		var fails error
		w := New(logr.Discard())
		w.dial = func(i netif.Interface) (conn, error) {
			if fails != nil {
				return nil, fmt.Errorf("%s: %w", i.Name, fails)
			}
			open[i.Name] = newFakeConn()
			return open[i.Name], nil
		}
		follow := func(interfaces ...netif.Interface) error {
			_, err := w.Follow(interfaces, fakePools{})
			synctest.Wait()
			return err
		}
		closed := func(x *fakeConn) bool {
			select {
			case <-x.ended:
				return true
			default:
				return false
			}
		}

		fails = errors.New("operation not permitted")
		if err := follow(eth0); err == nil || !strings.Contains(err.Error(), "eth0: operation not permitted") {
			t.Errorf("error %v", err)
		}
		fails = nil
		if err := follow(eth0, eth1); err != nil || len(open) != 2 {
			t.Fatalf("%d are open, %v", len(open), err)
		}
		first, second := open["eth0"], open["eth1"]
		if follow(eth0); closed(first) || !closed(second) {
			t.Errorf("eth0 is closed: %t, eth1, which is not in the list any more: %t", closed(first), closed(second))
		}
		if follow(eth0); open["eth0"] != first {
			t.Error("an open interface is opened again")
		}
		first.Close() // as when the interface goes down
		synctest.Wait()
		if follow(eth0); open["eth0"] == first {
			t.Error("a failed interface is not reopened")
		}
		recreated := eth0
		recreated.Index = 9
		second = open["eth0"]
		if follow(recreated); !closed(second) || open["eth0"] == second {
			t.Error("an interface that was recreated is not opened")
		}
		w.Close()
		if !closed(open["eth0"]) {
			t.Error("it listens after Close")
		}
	})
}
