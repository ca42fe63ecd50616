package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

func (f frr) sessions(ctx context.Context) ([]BGPSession, error) {
	out, err := f.command(ctx, "show bgp neighbors json")
	if err != nil {
		return nil, err
	}
	return parseFRRSessions(out)
}

func (f frr) paths(ctx context.Context) (map[netip.Prefix][]BGPPath, error) {
	all := map[netip.Prefix][]BGPPath{}
	for _, family := range []string{"ipv4", "ipv6"} {
		out, err := f.command(ctx, "show bgp "+family+" unicast json detail")
		if err != nil {
			return nil, err
		}
		paths, err := parseFRRPaths(out)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, paths)
	}
	return all, nil
}

func (f frr) bfd(ctx context.Context) ([]BFDSession, error) {
	peers, err := f.command(ctx, "show bfd peers json")
	if err != nil {
		return nil, err
	}
	counters, err := f.command(ctx, "show bfd peers counters json")
	if err != nil {
		return nil, err
	}
	return parseFRRBFD(peers, counters, time.Now())
}

func parseFRRSessions(b []byte) ([]BGPSession, error) {
	type neighbor struct {
		RemoteAS               uint32
		BGPState               string
		BGPNeighborAddr        string // of an unnumbered one
		EstablishedEpoch       int64  `json:"bgpTimerUpEstablishedEpoch"`
		ConnectionsDropped     int
		LastResetDueTo         string
		LastNotificationReason string
		AddressFamilyInfo      map[string]struct{ AcceptedPrefixCounter int }
	}
	var neighbors map[string]json.RawMessage
	if err := json.Unmarshal(b, &neighbors); err != nil {
		return nil, fmt.Errorf("FRR's neighbors: %w", err)
	}
	var all []BGPSession
	for _, name := range slices.Sorted(maps.Keys(neighbors)) {
		var n neighbor
		// Facts about no neighbor stand beside them where there is none at all.
		if err := json.Unmarshal(neighbors[name], &n); err != nil || n.BGPState == "" {
			continue
		}
		s := BGPSession{
			Name: name, PeerASN: n.RemoteAS, State: n.BGPState, Established: n.BGPState == "Established",
			Resets:    n.ConnectionsDropped,
			Received4: n.AddressFamilyInfo["ipv4Unicast"].AcceptedPrefixCounter,
			Received6: n.AddressFamilyInfo["ipv6Unicast"].AcceptedPrefixCounter,
			LastError: n.LastNotificationReason,
		}
		if s.LastError == "" {
			s.LastError = n.LastResetDueTo
		}
		if s.Peer, _ = netip.ParseAddr(name); !s.Peer.IsValid() {
			s.Peer, _ = netip.ParseAddr(n.BGPNeighborAddr)
		}
		if s.Established {
			s.Since = time.Unix(n.EstablishedEpoch, 0)
		}
		all = append(all, s)
	}
	return all, nil
}

func parseFRRPaths(b []byte) (map[netip.Prefix][]BGPPath, error) {
	type path struct {
		ASPath struct{ String string } `json:"aspath"`
		Origin string
		MED    *uint32 `json:"metric"`
		Pref   *uint32 `json:"locPrf"`
		Stale  bool

		Community, LargeCommunity struct{ String string }

		BestPath *struct{ Overall bool }
		NextHops []struct {
			IP    netip.Addr
			Scope string
		}
		Peer *struct{ PeerID string }
	}
	var table struct {
		Routes map[netip.Prefix][]path
	}
	if err := json.Unmarshal(b, &table); err != nil {
		return nil, fmt.Errorf("FRR's routes: %w", err)
	}
	all := map[netip.Prefix][]BGPPath{}
	for to, paths := range table.Routes {
		for _, p := range paths {
			if p.Peer == nil { // the first entry is about the prefix itself
				continue
			}
			q := BGPPath{
				ASPath: p.ASPath.String, Origin: p.Origin, MED: p.MED, LocalPref: p.Pref, Stale: p.Stale,
				Communities:      numericCommunities(p.Community.String),
				LargeCommunities: strings.Fields(p.LargeCommunity.String),
				Best:             p.BestPath != nil && p.BestPath.Overall,
			}
			q.Peer, _ = netip.ParseAddr(p.Peer.PeerID) // "(unspec)" for its own
			for _, hop := range p.NextHops {
				if !q.NextHop.IsValid() || hop.Scope == "global" {
					q.NextHop = hop.IP
				}
			}
			all[to] = append(all[to], q)
		}
	}
	return all, nil
}

// wellKnown are the communities for which FRR has a name (IANA's registry; RFC
// 1997, RFC 8326, RFC 7999, RFC 9494 among others).
var wellKnown = map[string]string{
	"internet":          "0:0",
	"graceful-shutdown": "65535:0",
	"accept-own":        "65535:1",
	"llgr-stale":        "65535:6",
	"no-llgr":           "65535:7",
	"blackhole":         "65535:666",
	"no-export":         "65535:65281",
	"no-advertise":      "65535:65282",
	"local-AS":          "65535:65283",
	"no-peer":           "65535:65284",
}

func numericCommunities(text string) []string {
	list := strings.Fields(text)
	for i, c := range list {
		list[i] = cmp.Or(wellKnown[c], c)
	}
	return list
}

func parseFRRBFD(peers, counters []byte, now time.Time) ([]BFDSession, error) {
	var sessions []struct {
		ID               uint32
		Peer             netip.Addr
		Interface        string
		Status           string
		Uptime, Downtime int // seconds
		Diagnostic       string

		Receive          int `json:"receive-interval"` // milliseconds
		Transmit         int `json:"transmit-interval"`
		RemoteReceive    int `json:"remote-receive-interval"`
		RemoteTransmit   int `json:"remote-transmit-interval"`
		RemoteMultiplier int `json:"remote-detect-multiplier"`
	}
	if err := json.Unmarshal(peers, &sessions); err != nil {
		return nil, fmt.Errorf("FRR's BFD peers: %w", err)
	}
	type key struct {
		Peer      netip.Addr
		Interface string
	}
	var counts []struct {
		key
		Downs int `json:"session-down"`
	}
	if err := json.Unmarshal(counters, &counts); err != nil {
		return nil, fmt.Errorf("FRR's BFD counters: %w", err)
	}
	downs := map[key]int{}
	for _, c := range counts {
		downs[c.key] = c.Downs
	}
	states := map[string]string{"up": "Up", "down": "Down", "init": "Init", "shutdown": "AdminDown"}
	var all []BFDSession
	for _, s := range sessions {
		b := BFDSession{
			Peer: s.Peer, Interface: s.Interface, State: cmp.Or(states[s.Status], s.Status), Up: s.Status == "up",
			Since: now.Add(-time.Duration(s.Uptime+s.Downtime) * time.Second).Truncate(time.Second),
			// RFC 5880, section 6.8.7: the slower of the two decides.
			Interval:   milliseconds(max(s.Transmit, s.RemoteReceive)),
			Detect:     milliseconds(s.RemoteMultiplier * max(s.Receive, s.RemoteTransmit)),
			Diagnostic: s.Diagnostic, Downs: downs[key{s.Peer, s.Interface}],
		}
		if b.Diagnostic == "ok" {
			b.Diagnostic = ""
		}
		all = append(all, b)
	}
	sortBFD(all)
	return all, nil
}

func milliseconds(n int) time.Duration { return time.Duration(n) * time.Millisecond }

func sortBFD(all []BFDSession) {
	slices.SortFunc(all, func(a, b BFDSession) int {
		return cmp.Or(a.Peer.Compare(b.Peer), cmp.Compare(a.Interface, b.Interface))
	})
}
