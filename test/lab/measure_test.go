package lab

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestReport: what counts as an outage. Probes are 5 ms apart.
func TestReport(t *testing.T) {
	const patience = 100 * time.Millisecond
	start := time.Unix(1000, 0)
	for _, tc := range []struct {
		why     string
		shots   string // per probe: . answered, x not, l too late, 2 twice
		want    ProbeReport
		outages time.Duration
	}{
		{"nothing was asked", "", ProbeReport{}, 0},
		{"all is well", "....", ProbeReport{Sent: 4, Answered: 4}, 0},
		{"from the first lost to the next answered", ".xxx.", ProbeReport{Sent: 5, Answered: 2}, 15 * time.Millisecond},
		{"the longest of two", ".x..xx.", ProbeReport{Sent: 7, Answered: 4}, 10 * time.Millisecond},
		{"it does not end", "..xxx", ProbeReport{Sent: 5, Answered: 2}, 10 * time.Millisecond},
		{"it never began to work", "xxx", ProbeReport{Sent: 3}, 10 * time.Millisecond},
		{"too late is no service", ".ll.", ProbeReport{Sent: 4, Answered: 2, Late: 2}, 10 * time.Millisecond},
		{"two nodes let it in", ".2.", ProbeReport{Sent: 3, Answered: 3, Duplicated: 1}, 0},
	} {
		var shots []shot
		for i, c := range tc.shots {
			s := shot{sent: start.Add(time.Duration(i) * 5 * time.Millisecond), took: time.Millisecond, answers: 1}
			switch c {
			case 'x':
				s.answers = 0
			case 'l':
				s.took = patience + 1
			case '2':
				s.answers = 2
			}
			shots = append(shots, s)
		}
		got := report(shots, patience)
		if got.LongestOutage != tc.outages || got.To.Sub(got.From) != tc.outages {
			t.Errorf("%s: outage %v from %v to %v, want %v", tc.why, got.LongestOutage, got.From, got.To, tc.outages)
		}
		counts := ProbeReport{Sent: got.Sent, Answered: got.Answered, Late: got.Late, Duplicated: got.Duplicated}
		if diff := cmp.Diff(tc.want, counts); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tc.why, diff)
		}
	}
}

// TestStandstill: a client that did not ask is told from one that got no answers.
func TestStandstill(t *testing.T) {
	var shots []shot
	for _, at := range []time.Duration{0, 5, 300, 305} {
		shots = append(shots, shot{sent: time.Unix(1000, 0).Add(at * time.Millisecond)})
	}
	if got := report(shots, time.Second).Standstill; got != 295*time.Millisecond {
		t.Errorf("it stood still for %v, want 295ms", got)
	}
}

func TestOverlap(t *testing.T) {
	start := time.Unix(1000, 0)
	for _, tc := range []struct {
		why     string
		answers []int // per question: how many answered
		want    time.Duration
	}{
		{"nobody was asked", nil, 0},
		{"one at a time", []int{1, 0, 1, 1}, 0},
		{"one question", []int{1, 2, 1}, watchInterval},
		{"the longest run", []int{2, 1, 2, 2, 3, 0, 2}, 3 * watchInterval},
		{"it goes on", []int{1, 2, 2}, 2 * watchInterval},
	} {
		var queries []query
		for i, n := range tc.answers {
			queries = append(queries, query{at: start.Add(time.Duration(i) * watchInterval), macs: make([]string, n)})
		}
		if got := overlap(queries); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.why, got, tc.want)
		}
	}
}

func TestParseClaim(t *testing.T) {
	node, client := mac(0, 11), mac(0, 200)
	ip4, ip6 := netip.MustParseAddr("172.30.0.100"), netip.MustParseAddr("fd30::100")
	arp := func(to net.HardwareAddr, operation byte, sender, target netip.Addr) []byte {
		b := append(ethernet(to, node, etherARP), 0, 1, 8, 0, 6, 4, 0, operation)
		b = append(append(b, node...), sender.AsSlice()...)
		return append(append(b, to...), target.AsSlice()...)
	}
	advertise := func(to net.HardwareAddr, options ...byte) []byte {
		b := append(ethernet(to, node, etherIPv6), make([]byte, 40)...)
		b[14+6] = protocolICMPv6
		b = append(b, neighbourAdvert, 0, 0, 0, 0x60, 0, 0, 0)
		return append(append(b, ip6.AsSlice()...), options...)
	}
	short := advertise(client)
	h := &Host{MAC: client, IPv4: lan4(200), IPv6: lan6(200)}
	for _, tc := range []struct {
		why   string
		frame []byte
		want  *claim
	}{
		{"ARP reply", arp(client, arpReply, ip4, lan4(200)), &claim{ip4, node, client}},
		{"gratuitous reply", arp(broadcast, arpReply, ip4, ip4), &claim{ip4, node, broadcast}},
		{"gratuitous request", arp(broadcast, arpRequest, ip4, ip4), &claim{ip4, node, broadcast}},
		{"question for another", arp(broadcast, arpRequest, lan4(11), ip4), nil},
		{"our own ARP question", arpQuestion(h, ip4), nil},
		{"our own solicitation", ndpQuestion(h, ip6), nil},
		{"advertisement", advertise(client, 2, 1, 2, 0, 0, 0, 0, 12), &claim{ip6, mac(0, 12), client}},
		{"without the option, the sender", advertise(client), &claim{ip6, node, client}},
		{"option of length 0", advertise(client, 2, 0, 0, 0, 0, 0, 0, 0), nil},
		{"option longer than the frame", advertise(client, 2, 2, 0, 0, 0, 0, 0, 0), nil},
		{"cut off", short[:len(short)-1], nil},
		{"nothing", nil, nil},
	} {
		got, ok := parseClaim(tc.frame)
		if ok != (tc.want != nil) {
			t.Errorf("%s: understood: %t", tc.why, ok)
			continue
		}
		if tc.want != nil && (got.ip != tc.want.ip || got.mac.String() != tc.want.mac.String() || got.to.String() != tc.want.to.String()) {
			t.Errorf("%s: %v, want %v", tc.why, got, *tc.want)
		}
	}
}
