package layer2

import (
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

var (
	ghost            = net.HardwareAddr{2, 0, 0, 0, 0, 0x66} // of no interface
	own              = net.HardwareAddr{2, 0, 0, 0, 0, 1}    // of eth0
	netipUnspecified = netip.IPv4Unspecified()
)

// wantConflicts compares the conflicts, but for when the hosts were seen.
func (h *harness) wantConflicts(t *testing.T, want ...Conflict) {
	t.Helper()
	if diff := cmp.Diff(want, h.Conflicts(), cmpopts.IgnoreFields(Conflict{}, "Seen"), cmpopts.EquateEmpty(), addrs); diff != "" {
		t.Errorf("conflicts (-want +got):\n%s", diff)
	}
}

// settle applies an address that others had before, and waits until the announcements
// of its takeover are over.
func (h *harness) settle(t *testing.T) *fakeConn {
	h.apply(t, eth0, vip)
	time.Sleep(2 * defendInterval)
	synctest.Wait()
	return h.conns[0]
}

// Forged frames do not silence an address that is served: each is defended at most every
// ten seconds (RFC 5227, 2.4 (c)), the host that they name is asked, and the conflict is
// reported until a minute after the last of them.
func TestForgedFramesDoNotSilenceAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		w := h.settle(t)
		_, before := w.seen()
		for range 25 {
			h.claim(vip, ghost)
			if !h.answersNow(vip) {
				t.Fatal("forged frames silenced the address")
			}
			time.Sleep(time.Second)
		}
		_, after := w.seen()
		if n := len(after) - len(before); n != 3 {
			t.Errorf("%d defences in 25 s, want one every ten seconds", n)
		}
		if n := w.verifications(); n < len(verifyAt) || n > 13*len(verifyAt) {
			t.Errorf("the host was asked %d times, want some, at a limited rate", n)
		}
		h.wantConflicts(t, Conflict{Addr: vip, Interface: "eth0", MAC: ghost.String(), Defended: true, Announced: true})
		time.Sleep(conflictTimeout + time.Second)
		h.wantConflicts(t)
		if !h.answersNow(vip) {
			t.Error("queries for the address are not answered after the attack")
		}
	})
}

// A flood costs no more than a few frames: the number of queries, announcements and
// wake-ups of the speaker is limited, whichever hosts the frames name.
func TestFloodOfForgedFramesIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		w := h.settle(t)
		_, before := w.seen()
		select {
		case <-h.Changed():
		default:
		}
		news := 0
		for i := range 30_000 {
			w.packets <- frame{Sender: vip, Claimed: vip, MAC: net.HardwareAddr{2, 1, 0, 0, byte(i >> 8), byte(i)}, Source: ghost}
			time.Sleep(time.Second / 3000)
			select {
			case <-h.Changed():
				news++
			default:
			}
		}
		synctest.Wait()
		_, after := w.seen()
		if n := len(after) - len(before); n > 2 {
			t.Errorf("%d announcements in ten seconds of flood, want at most 2", n)
		}
		if n := w.verifications(); n > 6*len(verifyAt) {
			t.Errorf("%d queries in ten seconds of flood", n)
		}
		if news > 2 {
			t.Errorf("the speaker was woken %d times, want once for one conflict", news)
		}
		if got := h.Conflicts(); len(got) != 1 || !h.answersNow(vip) {
			t.Errorf("conflicts %v, want one, and to answer", got)
		}
	})
}

// Conflicts that begin and end again and again leave no tasks behind: one forged frame after
// each end would otherwise add a task that asks the host for ever.
func TestEndedConflictsLeaveNoTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		h.settle(t)
		for range 20 {
			h.claim(vip, ghost)
			for deadline := time.Now().Add(2 * conflictTimeout); len(h.Conflicts()) > 0; time.Sleep(100 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the conflict does not end")
				}
			}
		}
		for _, l := range h.links {
			l.mu.Lock()
			tasks := 0
			for _, x := range l.due {
				if x.verification > 0 {
					tasks++
				}
			}
			l.mu.Unlock()
			if tasks > 1 {
				t.Errorf("%d verification tasks of one address, want at most one", tasks)
			}
		}
	})
}

// A host that answers is reported as such, also if forged frames named another one
// before, and while it is silent; the address stays here.
func TestHostThatAnswersIsReportedAndTheAddressKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		h.settle(t)
		h.claim(vip, ghost)
		time.Sleep(5 * time.Second)
		h.exist(foreigner)
		h.claim(vip, foreigner)
		time.Sleep(time.Second)
		want := Conflict{Addr: vip, Interface: "eth0", MAC: foreigner.String(), Defended: true, Announced: true, Answers: true}
		h.wantConflicts(t, want)
		time.Sleep(10 * time.Minute) // it answers, but claims nothing by itself
		h.wantConflicts(t, want)
		if !h.answersNow(vip) {
			t.Error("queries for the address are not answered")
		}
		h.exist()
		time.Sleep(conflictTimeout + 2*reverifyAfter)
		h.wantConflicts(t)
	})
}

// A host that says nothing by itself is found after a takeover: the node that knew about
// it may be dead. It is looked for with every later announcement too.
func TestTakeoverFindsAForeignHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		h.apply(t, eth0, vip)
		time.Sleep(time.Second)
		w := h.conns[0]
		if probes := w.sentProbes(); len(probes) != 1 {
			t.Fatalf("probes at %v after a takeover, want one within a second", probes)
		}
		h.exist(foreigner)
		w.packets <- frame{Sender: vip, Claimed: vip, MAC: foreigner, Source: foreigner, Reply: true} // to the probe
		time.Sleep(time.Second)
		h.wantConflicts(t, Conflict{Addr: vip, Interface: "eth0", MAC: foreigner.String(), Defended: true, Announced: true, Answers: true})
		time.Sleep(10 * time.Minute)
		if n := len(w.sentProbes()); n < 10 {
			t.Errorf("%d probes in ten minutes, want one with each announcement", n)
		}
	})
}

// Frames that only name a host, which does not answer, delay a new address for a few
// seconds at most.
func TestForgedFramesDoNotKeepANewAddressAway(t *testing.T) {
	for name, forged := range map[string]frame{
		"announcements":       {Sender: vip, Claimed: vip, MAC: ghost, Source: foreigner},
		"answers":             {Sender: vip, Claimed: vip, MAC: ghost, Source: foreigner, Reply: true},
		"probes":              {Sender: netipUnspecified, Target: vip, MAC: ghost, Source: ghost},
		"answers of our own":  {Sender: vip, Claimed: vip, MAC: own, Source: own, Reply: true},
		"probes of our own":   {Sender: netipUnspecified, Target: vip, MAC: own, Source: own},
		"frames of all kinds": {Sender: vip, Claimed: vip, Target: other, MAC: ghost, Source: ghost},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := start(t)
				h.probe(t, vip)
				if forged.Reply && forged.MAC.String() == ghost.String() {
					// An answer that comes by itself is none: the host has to answer again.
					h.conns[0].packets <- forged
				}
				for range 50 {
					if !forged.Reply || forged.MAC.String() != ghost.String() {
						h.conns[0].packets <- forged
					}
					time.Sleep(100 * time.Millisecond)
				}
				synctest.Wait()
				if !h.answersNow(vip) {
					t.Errorf("queries for the address are not answered; conflicts %v", h.Conflicts())
				}
			})
		})
	}
}

// While a foreign host is known to have an address, forged frames of others do not
// change what is reported.
func TestConflictOfANewAddressIsSteady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		h.probe(t, vip)
		h.exist(foreigner)
		h.claim(vip, foreigner)
		want := Conflict{Addr: vip, Interface: "eth0", MAC: foreigner.String(), Answers: true}
		for range 20 {
			h.claim(vip, ghost)
			time.Sleep(300 * time.Millisecond)
			h.wantConflicts(t, want)
		}
		if h.answersNow(vip) {
			t.Error("a query is answered though a foreign host uses the address")
		}
	})
}

// A takeover of an address that a foreign host has continues the conflict.
func TestTakeoverWhileAHostHasTheAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		h.probe(t, vip)
		h.exist(foreigner)
		h.claim(vip, foreigner)
		time.Sleep(reprobeAfter + time.Millisecond) // it is probed again now
		h.apply(t, eth0, vip)                       // its Service came from another load balancer, for one
		h.wantConflicts(t, Conflict{Addr: vip, Interface: "eth0", MAC: foreigner.String(), Defended: true, Announced: true, Answers: true})
		if !h.answersNow(vip) {
			t.Error("queries for the address are not answered after a takeover")
		}
	})
}

// A frame that names a node of the cluster, forged or not, is no conflict, and is
// reported as another node's claim; our own frame, which a switch with a loop sends back, is not.
func TestNodesAreNoForeignHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		node := net.HardwareAddr{2, 0, 0, 0, 0, 2}
		h.SetClusterMACs(map[string]bool{node.String(): true})
		w := h.settle(t)
		_, before := w.seen()
		for range 20 {
			h.claim(vip, own)
		}
		if got := h.ClaimedByNodes(); len(got) > 0 {
			t.Errorf("this node's own frames are reported as claims of another node: %v", got)
		}
		for range 20 {
			h.claim(vip, node)
		}
		h.wantConflicts(t)
		if got := h.ClaimedByNodes(); len(got) != 1 || got[0] != vip {
			t.Errorf("claims of other nodes %v, want %s", got, vip)
		}
		if _, after := w.seen(); len(after) != len(before) || w.verifications() > 0 || !h.answersNow(vip) {
			t.Errorf("%d announcements and %d queries after claims of a node", len(after)-len(before), w.verifications())
		}
		if n := h.Counts()[lb.IPv4].Rivals; n != 20 {
			t.Errorf("%d claims of other nodes are counted, want 20", n)
		}
		time.Sleep(2 * rivalTimeout)
		if got := h.ClaimedByNodes(); len(got) > 0 {
			t.Errorf("claims of other nodes %v a while later", got)
		}
	})
}

// If one of the two interfaces of an address goes down, the address is announced at once on
// the other, to the neighbours that have the first one's MAC.
func TestAddressThatLosesAnInterfaceIsAnnouncedOnTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		eth1 := netif.Interface{Name: "eth1", Index: 3, MAC: "02:00:00:00:01:01", Up: true}
		rows := []lb.L2Announcement{{Addr: vip, Interfaces: []string{"eth0", "eth1"}}}
		apply := func(interfaces ...netif.Interface) {
			if _, err := h.Apply(rows, nil, interfaces); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		apply(eth0, eth1)
		time.Sleep(10 * time.Second)
		down := eth0
		down.Up = false
		before := [2]int{}
		for i, w := range h.conns {
			_, announced := w.seen()
			before[i] = len(announced)
		}
		apply(down, eth1)
		for i, w := range h.conns {
			select {
			case <-w.closed:
				continue
			default:
			}
			if _, announced := w.seen(); len(announced) != before[i]+1 {
				t.Errorf("%d announcements on the other interface, want one at once", len(announced)-before[i])
			}
		}
	})
}

// An address that moves to another interface of the node is announced there at once, and
// not probed.
func TestAddressMovesToAnotherInterfaceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		eth1 := netif.Interface{Name: "eth1", Index: 3, MAC: "02:00:00:00:01:01", Up: true}
		h.probe(t, vip)
		time.Sleep(time.Minute)
		h.probe(t, vip) // as the speaker does when Changed says so
		rows := []lb.L2Announcement{{Addr: vip, Interfaces: []string{"eth1"}, Probe: true}}
		if _, err := h.Apply(rows, nil, []netif.Interface{eth0, eth1}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case <-h.conns[0].closed:
		default:
			t.Error("the interface that it left still answers")
		}
		if _, announced := h.conns[1].seen(); len(announced) != 1 || len(h.conns[1].probes) > 0 || !h.answersNow(vip) {
			t.Errorf("announced at %v, probed at %v on the other interface", announced, h.conns[1].probes)
		}
	})
}
