package speaker

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plan"
	"github.com/fairlead-lb/fairlead/internal/speakerstatus"
)

// moveEvery is the least time between two addresses that are taken over because a
// user wants it: neighbours and the other speakers have heard of the one before.
const moveEvery = time.Second

// mover carries out a user's orders to take addresses over: once each, one address
// after the other. The loop of Start owns it.
type mover struct {
	now    func() time.Time
	heeded map[string]string // the annotations that are done with
	busy   bool              // with orders that are not
	last   time.Time         // the last move began
	taken  []string          // in words
	addrs  []netip.Addr      // that were taken over
	result speakerstatus.Moved
}

// next returns the address that is to be taken over now, if any, given a plan
// and what it was made from; and how long to wait before it is asked again, 0 for when something happens.
func (m *mover) next(orders kube.SpeakerOrders, s *plan.Snapshot, p plan.Plan) (netip.Addr, time.Duration) {
	if len(orders.Once) == 0 {
		m.heeded, m.result.Heeded = nil, nil
		return netip.Addr{}, 0
	}
	if maps.Equal(orders.Once, m.heeded) {
		return netip.Addr{}, 0
	}
	if !m.busy {
		m.busy, m.taken, m.addrs = true, nil, nil
	}
	if wait := m.last.Add(moveEvery).Sub(m.now()); wait > 0 {
		return netip.Addr{}, wait
	}
	move, refused := plan.Orders{Take: orders.Take, Rebalance: orders.Rebalance}.Next(s, p)
	if move.From != "" {
		m.last = m.now()
		m.taken = append(m.taken, fmt.Sprintf("%s from %s", move.Addr, move.From))
		m.addrs = append(m.addrs, move.Addr)
		m.addrs = m.addrs[max(0, len(m.addrs)-v1alpha1.MaxMoved):]
		m.result = speakerstatus.Moved{Reason: v1alpha1.ReasonMoving, Message: "taking over " + strings.Join(m.taken, ", "), Addresses: slices.Clone(m.addrs)}
		return move.Addr, moveEvery
	}
	m.busy, m.heeded = false, orders.Once
	m.result = outcome(m.taken, refused, orders.Invalid)
	m.result.Addresses, m.result.Heeded = slices.Clone(m.addrs), orders.Once
	return netip.Addr{}, 0
}

// outcome says what became of orders that are done with.
func outcome(taken []string, refused []plan.Refusal, invalid error) speakerstatus.Moved {
	out := speakerstatus.Moved{Reason: v1alpha1.ReasonMoved, Message: "there was nothing to take over"}
	var parts []string
	if len(taken) > 0 {
		parts = append(parts, "took over "+strings.Join(taken, ", "))
	}
	for _, r := range refused {
		out.Reason = v1alpha1.ReasonRefused
		parts = append(parts, fmt.Sprintf("cannot take %s: %s", r.Addr, r.Reason.WordsFor(lb.FamilyOf(r.Addr))))
	}
	if invalid != nil {
		out.Reason = v1alpha1.ReasonRefused
		parts = append(parts, invalid.Error())
	}
	if len(parts) > 0 {
		out.Message = strings.Join(parts, "; ")
	}
	return out
}
