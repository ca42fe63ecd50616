package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (b bird) sessions(ctx context.Context) ([]BGPSession, error) {
	out, err := b.command(ctx, "show protocols all")
	if err != nil {
		return nil, err
	}
	sessions, err := parseBIRDSessions(string(out))
	if err != nil {
		return nil, err
	}
	log, err := b.log()
	for i := range sessions {
		sessions[i].Resets = strings.Count(log, "> "+sessions[i].Name+": BGP session closed\n")
	}
	return sessions, err
}

func (b bird) paths(ctx context.Context) (map[netip.Prefix][]BGPPath, error) {
	out, err := b.command(ctx, "show route all")
	if err != nil {
		return nil, err
	}
	return parseBIRDPaths(string(out))
}

func (b bird) bfd(ctx context.Context) ([]BFDSession, error) {
	out, err := b.command(ctx, "show bfd sessions")
	if err != nil {
		return nil, err
	}
	sessions, err := parseBIRDBFD(string(out))
	if err != nil {
		return nil, err
	}
	log, err := b.log()
	for i := range sessions {
		sessions[i].Downs = strings.Count(log, fmt.Sprintf(": Session to %s changed state from Up to ", sessions[i].Peer))
	}
	return sessions, err
}

// log is what BIRD has written since it was last started.
func (b bird) log() (string, error) {
	p := b.lab.Process("bird-" + b.Name)
	if p == nil {
		return "", fmt.Errorf("%s was never started", b.Name)
	}
	log, err := os.ReadFile(p.log)
	return string(log[min(int64(len(log)), p.logAt):]), err
}

// birdTime is how BIRD writes a time, as birdMain tells it to.
const birdTime = "2006-01-02 15:04:05.000"

// parseBIRDSessions reads `show protocols all`: a line per protocol that begins
// in the first column, and indented ones about it.
func parseBIRDSessions(text string) ([]BGPSession, error) {
	var all []BGPSession
	var s *BGPSession // the one that lines are about; nil while that is no session
	channel := ""
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if !strings.HasPrefix(line, " ") {
			s = nil
			// n1_4  BGP  ---  up  2026-11-21 15:16:35.380  Established
			if len(words) < 6 || words[1] != "BGP" {
				continue
			}
			since, err := time.ParseInLocation(birdTime, words[4]+" "+words[5], time.Local)
			if err != nil {
				return nil, fmt.Errorf("BIRD's protocol %s: %w", words[0], err)
			}
			all = append(all, BGPSession{Name: words[0], Since: since})
			s = &all[len(all)-1]
			continue
		}
		if s == nil {
			continue
		}
		if c, ok := strings.CutPrefix(strings.TrimSpace(line), "Channel "); ok {
			channel = c
			continue
		}
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		birdSessionFact(s, channel, key, strings.TrimSpace(value))
	}
	// One that only listens for others has no neighbor.
	all = slices.DeleteFunc(all, func(s BGPSession) bool { return !s.Peer.IsValid() })
	slices.SortFunc(all, func(a, b BGPSession) int { return a.Peer.Compare(b.Peer) })
	return all, nil
}

func birdSessionFact(s *BGPSession, channel, key, value string) {
	switch key {
	case "BGP state":
		s.State, s.Established = value, value == "Established"
		if !s.Established {
			s.Since = time.Time{}
		}
	case "Neighbor address":
		ip, _, _ := strings.Cut(value, "%") // the zone of a link-local one
		s.Peer, _ = netip.ParseAddr(ip)
	case "Neighbor AS":
		n, _ := strconv.ParseUint(value, 10, 32)
		s.PeerASN = uint32(n)
	case "Last error":
		s.LastError = value
	case "Routes": // 1 imported, 0 exported, 1 preferred
		n, _ := strconv.Atoi(strings.Fields(value + " -")[0])
		switch channel {
		case "ipv4":
			s.Received4 = n
		case "ipv6":
			s.Received6 = n
		}
	}
}

// birdPath is the first line of a path. The prefix is there for its first only:
//
//	10.30.0.1/32         unicast [n1_4 2026-11-21 15:17:30.437] * (100) [AS64513i]
//	                     unicast [n2_4 2026-11-21 15:17:29.884 from 172.30.0.12] (100s) [AS64513i]
var birdPath = regexp.MustCompile(`^(\S*)\s+(?:unicast|blackhole|unreachable|prohibited) \[\S+ \S+ \S+?(?: from (\S+))?\] (?:([*!]) )?\(([^)]*)\)`)

// parseBIRDPaths reads `show route all`.
func parseBIRDPaths(text string) (map[netip.Prefix][]BGPPath, error) {
	all := map[netip.Prefix][]BGPPath{}
	var to netip.Prefix
	var p *BGPPath
	byBGP := false
	done := func() {
		if p != nil && byBGP {
			if !p.Peer.IsValid() {
				p.Peer = p.NextHop // it is only told where it is another
			}
			all[to] = append(all[to], *p)
		}
		p, byBGP = nil, false
	}
	for line := range strings.Lines(text) {
		if m := birdPath.FindStringSubmatch(line); m != nil {
			done()
			if m[1] != "" {
				var err error
				if to, err = netip.ParsePrefix(m[1]); err != nil {
					return nil, fmt.Errorf("BIRD's routes: %w", err)
				}
			}
			// ! is the best, too, but the kernel refused it.
			p = &BGPPath{Best: m[3] != "", Stale: strings.Contains(m[4], "s")}
			p.Peer, _ = netip.ParseAddr(m[2])
			continue
		}
		if p == nil {
			continue
		}
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		if key == "Type" {
			byBGP = strings.HasPrefix(value, "BGP")
		}
		birdPathFact(p, key, value)
	}
	done()
	return all, nil
}

func birdPathFact(p *BGPPath, key, value string) {
	number := func() *uint32 {
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return nil
		}
		u := uint32(n)
		return &u
	}
	switch key {
	case "BGP.origin":
		p.Origin = value
		if value == "Incomplete" {
			p.Origin = "incomplete" // as FRR has it
		}
	case "BGP.as_path":
		p.ASPath = value
	case "BGP.next_hop": // the link-local one comes second
		p.NextHop, _ = netip.ParseAddr(strings.Fields(value + " -")[0])
	case "BGP.med":
		p.MED = number()
	case "BGP.local_pref":
		p.LocalPref = number()
	case "BGP.community":
		p.Communities = birdCommunities(value)
	case "BGP.large_community":
		p.LargeCommunities = birdCommunities(value)
	}
}

// birdCommunities turns (65000,1) (65000, 1, 2) into 65000:1 65000:1:2.
func birdCommunities(text string) []string {
	var list []string
	for c := range strings.SplitSeq(text, ")") {
		if c = strings.TrimLeft(strings.TrimSpace(c), "("); c != "" {
			list = append(list, strings.NewReplacer(", ", ":", ",", ":").Replace(c))
		}
	}
	return list
}

// parseBIRDBFD reads `show bfd sessions`: a table with a head per protocol.
//
//	172.30.0.11   eth0   Up   2026-11-21 15:16:35.027   0.300   0.900
func parseBIRDBFD(text string) ([]BFDSession, error) {
	var all []BFDSession
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) != 7 {
			continue
		}
		peer, err := netip.ParseAddr(words[0])
		if err != nil {
			continue // the head
		}
		since, err := time.ParseInLocation(birdTime, words[3]+" "+words[4], time.Local)
		if err != nil {
			return nil, fmt.Errorf("BIRD's BFD session with %s: %w", peer, err)
		}
		s := BFDSession{Peer: peer, Interface: words[1], State: words[2], Up: words[2] == "Up", Since: since}
		if s.Interface == "---" { // multihop
			s.Interface = ""
		}
		if s.Interval, err = time.ParseDuration(words[5] + "s"); err == nil {
			s.Detect, err = time.ParseDuration(words[6] + "s")
		}
		if err != nil {
			return nil, fmt.Errorf("BIRD's BFD session with %s: %w", peer, err)
		}
		all = append(all, s)
	}
	sortBFD(all)
	return all, nil
}
