package ledger

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	macA = "02:00:00:00:00:0a"
	macB = "02:00:00:00:00:0b"
)

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func nth(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + i)}) }

// A host that answers for every address blocks two of them, not a pool.
func TestHostThatAnswersForEveryAddress(t *testing.T) {
	h, now := hosts{}, begin
	for i := range 2 {
		if c := h.conflict(nth(i), macA, now); c != (Conflict{Blocked: true}) {
			t.Errorf("conflict %d: %+v, want the address blocked", i+1, c)
		}
		now = now.Add(time.Second)
	}
	if c := h.conflict(nth(2), macA, now); c != (Conflict{AnswersAll: true, First: true, Retry: HostRetry}) {
		t.Errorf("third conflict: %+v, want the address kept, and that to be news", c)
	}
	for i := 2; i < 30; i++ { // the same one again, and those of other Services
		now = now.Add(time.Second)
		if c := h.conflict(nth(i), macA, now); c.Blocked || c.First || !c.AnswersAll {
			t.Errorf("later conflict about %s: %+v, want the address kept", nth(i), c)
		}
	}
	in := func(a netip.Addr) bool { return a == nth(0) }
	if diff := cmp.Diff([]string{macA}, h.answerAll(in)); diff != "" {
		t.Errorf("hosts that answer for every address (-want +got):\n%s", diff)
	}
	// Another address is tried after minutes, one.
	now = begin.Add(2*time.Second + HostRetry)
	if c := h.conflict(nth(2), macA, now); !c.Blocked {
		t.Errorf("after %s: %+v, want another address to be tried", HostRetry, c)
	}
	if c := h.conflict(nth(3), macA, now); c.Blocked || c.Retry != HostRetry {
		t.Errorf("right after that: %+v, want the address kept", c)
	}
	// What was blocked comes back when the host is silent about one that was kept.
	if free := h.stopped(nth(40)); len(free) > 0 {
		t.Errorf("an address without a conflict frees %v", free)
	}
	if diff := cmp.Diff([]netip.Addr{nth(0), nth(1), nth(2)}, h.stopped(nth(3)), cmp.Comparer(func(x, y netip.Addr) bool { return x == y })); diff != "" {
		t.Errorf("free when the host has stopped (-want +got):\n%s", diff)
	}
	if len(h) > 0 {
		t.Errorf("the host is remembered: %v", h)
	}
}

// Hosts that have an address each, or some over a long time, are passed over.
func TestHostsThatHaveSomeAddresses(t *testing.T) {
	for name, at := range map[string]func(i int) (mac string, now time.Time){
		"hosts with an address each": func(i int) (string, time.Time) { return "02:00:00:00:01:" + string(rune('a'+i)), begin },
		"one host, over hours":       func(i int) (string, time.Time) { return macA, begin.Add(time.Duration(i) * hostWindow) },
		"two hosts with two addresses": func(i int) (string, time.Time) {
			return []string{macA, macB}[i%2], begin.Add(time.Duration(i/4) * time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := hosts{}
			for i := range 10 {
				mac, now := at(i)
				if c := h.conflict(nth(i), mac, now); !c.Blocked {
					t.Fatalf("conflict %d: %+v, want the address blocked", i+1, c)
				}
			}
		})
	}
}

// Of two hosts that answer for every address each is stopped for itself.
func TestTwoHostsThatAnswerForEveryAddress(t *testing.T) {
	h := hosts{}
	blocked := 0
	for i := range 20 {
		if h.conflict(nth(i), []string{macA, macB}[i%2], begin).Blocked {
			blocked++
		}
	}
	if blocked != 2*(hostConflicts-1) {
		t.Errorf("%d addresses are blocked, want %d of each host", blocked, hostConflicts-1)
	}
	all := func(netip.Addr) bool { return true }
	if got := h.answerAll(all); len(got) != 2 {
		t.Errorf("hosts that answer for every address: %v, want both", got)
	}
	h.stopped(nth(4)) // of A
	if got := h.answerAll(all); len(got) != 1 || got[0] != macB {
		t.Errorf("after A has stopped: %v, want B alone", got)
	}
}

// Nothing is remembered of a host whose addresses have expired or been released.
func TestHostIsForgotten(t *testing.T) {
	h := hosts{}
	for i := range 4 {
		h.conflict(nth(i), macA, begin)
	}
	for i := range 2 {
		h.expire(nth(i))
	}
	h.release(nth(2))
	if len(h) != 1 {
		t.Fatalf("forgotten while a Service keeps an address: %v", h)
	}
	h.release(nth(3))
	if len(h) > 0 {
		t.Errorf("remembered: %v", h)
	}
}
