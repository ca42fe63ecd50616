package speaker

import (
	"fmt"
	"maps"
	"net/netip"
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
	done   map[string]string // the annotations that are carried out
	busy   bool              // with orders that are not
	last   time.Time         // the last move began
	taken  []plan.Move       // by these orders
	result speakerstatus.Moved
}

// next returns the address that is to be taken over now, if any, given a plan
// and what it was made from; and how long to wait before it is asked again, 0 for when something happens.
func (m *mover) next(orders kube.SpeakerOrders, s *plan.Snapshot, p plan.Plan) (netip.Addr, time.Duration) {
	if len(orders.Once) == 0 {
		m.done, m.result.Heeded = nil, nil
		return netip.Addr{}, 0
	}
	if maps.Equal(orders.Once, m.done) {
		return netip.Addr{}, 0
	}
	if !m.busy {
		m.busy, m.taken = true, nil
	}
	if wait := m.last.Add(moveEvery).Sub(m.now()); wait > 0 {
		return netip.Addr{}, wait
	}
	move, refused := plan.Orders{Take: orders.Take, Rebalance: orders.Rebalance}.Next(s, p)
	if move.From != "" {
		m.last = m.now()
		m.taken = append(m.taken, move)
		m.result = speakerstatus.Moved{Reason: v1alpha1.ReasonMoving, Message: "taking over " + describeMoves(m.taken), Addresses: addressesOf(m.taken)}
		return move.Addr, moveEvery
	}
	m.busy, m.done = false, orders.Once
	m.result = outcome(m.taken, refused, orders.Invalid)
	m.result.Heeded = orders.Once
	return netip.Addr{}, 0
}

// obey begins the next move that a user wants.
func (s *Speaker) obey(orders kube.SpeakerOrders, snapshot *plan.Snapshot, p plan.Plan) {
	take, again := s.mover.next(orders, snapshot, p)
	s.take = take
	s.wakeAfter(again)
	if take.IsValid() {
		s.log.Info("taking over, as was asked for", "address", take.String())
		s.timer.Poke()
	}
}

// outcome describes the result of orders that are carried out.
func outcome(taken []plan.Move, refused []plan.Refusal, invalid error) speakerstatus.Moved {
	out := speakerstatus.Moved{Reason: v1alpha1.ReasonMoved, Message: "there was nothing to take over", Addresses: addressesOf(taken)}
	var parts []string
	if len(taken) > 0 {
		parts = append(parts, "took over "+describeMoves(taken))
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

func describeMoves(moves []plan.Move) string {
	var words []string
	for _, m := range moves {
		words = append(words, fmt.Sprintf("%s from %s", m.Addr, m.From))
	}
	return strings.Join(words, ", ")
}

// addressesOf returns the addresses of the last v1alpha1.MaxMoved moves.
func addressesOf(moves []plan.Move) (out []netip.Addr) {
	for _, m := range moves[max(0, len(moves)-v1alpha1.MaxMoved):] {
		out = append(out, m.Addr)
	}
	return out
}
