package speaker

import (
	"net/netip"
	"time"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/metrics"
	"github.com/fairlead-lb/fairlead/internal/plan"
)

// countTakeovers counts the addresses that the plan takes over, by the state of the node that
// had them.
func (s *Speaker) countTakeovers(snapshot *plan.Snapshot, p plan.Plan) {
	for addr := range p.Claims {
		from := snapshot.Claims[addr].Owner
		if from == "" {
			continue
		}
		reason := takeoverReason(snapshot, addr, from)
		s.cfg.Metrics.Takeovers.WithLabelValues(reason).Inc()
		if last := s.Gossip.LastSign(from); reason == metrics.TakenFromDead && !last.IsZero() {
			s.cfg.Metrics.Failovers.Observe(time.Since(last).Seconds())
		}
	}
}

// takeoverReason returns the state of the node from which an address is taken over.
func takeoverReason(snapshot *plan.Snapshot, addr netip.Addr, from string) string {
	owner, alive := snapshot.Speakers[from]
	switch {
	case addr == snapshot.Take:
		return metrics.TakenByRequest
	case !alive:
		return metrics.TakenFromDead
	case owner.Leaving:
		return metrics.TakenFromLeaving
	default:
		return metrics.TakenFromIneligible
	}
}

// queries returns the ARP and NDP queries by outcome. It is safe for concurrent use.
func (s *Speaker) queries() (out []metrics.Queries) {
	for f, c := range s.Layer2.Counts() {
		protocol := "arp"
		if f == lb.IPv6 {
			protocol = "ndp"
		}
		out = append(out, metrics.Queries{
			Protocol: protocol, Answered: c.Answered, Probing: c.Probing, Disputed: c.Disputed, Stalled: c.Stalled, Failed: c.Failed, Rivals: c.Rivals,
		})
	}
	return out
}

// count sets how many speakers, addresses and conflicts there are; begun are new conflicts.
func (s *Speaker) count(alive, begun int) {
	s.cfg.Metrics.Disputes.Add(float64(begun))
	s.cfg.Metrics.Members.Set(float64(alive))
	s.cfg.Metrics.Addresses.Set(float64(len(s.ownership.since)))
	s.cfg.Metrics.Conflicts.Set(float64(len(s.ownership.disputed)))
	s.cfg.Metrics.ClockOffset.Set(s.cfg.Clock.Verdict().Ahead.Seconds())
}
