package members

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/fairlead-lb/fairlead/internal/election"
)

const (
	// retransmitMult x log10(nodes+1), rounded up, is how often each node passes a message on. With
	// memberlist's default of 4, one message in a hundred reached one of seven nodes only with the
	// next full sync, although no packet was lost: some are sent to dead nodes, and some to nodes
	// that have the message already.
	retransmitMult = 12

	// repeatMult is the same for messages whose sender has sent them to all others: gossip is for
	// the few that missed that. It is memberlist's default.
	repeatMult = 4

	// maxPacket is the longest message that fits into one of memberlist's packets beside its headers.
	maxPacket = 1200

	// maxAtOnce is how many packets a speaker sends at once at most.
	maxAtOnce = 1000

	// Changes that do not concern this node are coalesced: which speakers watchers hear, and claims
	// of other nodes.
	opinionInterval = 100 * time.Millisecond
	claimInterval   = 500 * time.Millisecond
)

// SetFacts publishes what the others must know about this node.
func (m *Members) SetFacts(f Facts) {
	m.publish(func(v *versioned) { v.Facts = f })
}

// publish changes what this speaker publishes about itself, and sends it to the others.
func (m *Members) publish(change func(*versioned)) { m.sendToOthers(m.own.update(change)) }

// sendToOthers merges a message of this speaker, and sends it to all others at once, in a few
// packets each, which are repeated until they are acknowledged. Where those would be too many, it
// leaves all to gossip.
func (m *Members) sendToOthers(msg message) {
	parts, others := msg.split(), m.membership.others()
	if len(others) == 0 || len(parts)*len(others) > maxAtOnce {
		m.merge(msg, m.queue)
		return
	}
	m.merge(msg, m.repeats)
	for _, part := range parts {
		part.ToAll = true
		if b := part.encode(); len(b) <= maxPacket {
			m.sendEach(others, kindNews, newsBody(m.own.put(others, part), b))
		}
	}
}

// refute publishes this node's facts again, with a higher version, if others hold facts of an
// earlier run whose clock was ahead, or facts that this node never published.
func (m *Members) refute(heard versioned) {
	own := m.own.get()
	if heard.compare(own) > 0 && heard.Term <= own.Term && own.plausible(heard) {
		m.publish(func(f *versioned) { f.Version = heard.Version })
	}
}

// SetTerm changes the term of this speaker's records. After the key was disclosed, the user raises
// the term, and records of earlier terms count less than all later ones. This speaker publishes its
// facts and claims again in the new term; no address moves. Records of a later term are refused.
func (m *Members) SetTerm(term uint64) {
	if m.own.get().Term == term {
		return
	}
	own := m.state.setTerm(term)
	m.publish(func(f *versioned) { f.Term, f.Version = term, m.cfg.Generation })
	if len(own) > 0 {
		m.sendToOthers(message{Claims: own})
	}
}

// Claim records claims of this node and sends them to the others.
func (m *Members) Claim(claims map[netip.Addr]election.Claim) {
	m.sendToOthers(message{Claims: m.state.inTerm(claims)})
}

// merge merges a message into the state, and queues what was new for gossip, except records that
// their sender sends to all others.
func (m *Members) merge(msg message, queue *memberlist.TransmitLimitedQueue) {
	start := msg.Sender != "" && m.state.blank()
	news, urgent := m.state.merge(msg)
	if news.joins() {
		m.changed.in(late) // the node is late then, if it has not joined
	}
	if start && len(news.Claims) > 0 {
		m.changed.now()
		return // after the start all claims come from others: this speaker would pass on thousands that all know
	}
	switch { // most messages are received many times
	case urgent:
		m.changed.now()
	case len(news.Facts) > 0:
		m.changed.every(opinionInterval)
	case len(news.Claims) > 0:
		m.changed.every(claimInterval)
	}
	gossip, direct := news.toPassOn(msg).packets()
	for _, b := range gossip {
		queue.QueueBroadcast(b)
	}
	for _, b := range direct {
		m.sendDirectly(b)
	}
}

// packets splits the message into parts that gossip passes on, and parts that do not fit into a
// packet, which the sender sends to all nodes directly. The receivers do not pass these on, as each
// would need as many connections.
func (m message) packets() (gossip []*broadcast, direct [][]byte) {
	for _, part := range m.split() {
		b := &broadcast{name: part.name(), msg: part.encode()}
		if len(b.msg) <= maxPacket {
			gossip = append(gossip, b)
			continue
		}
		part.ToAll = true
		direct = append(direct, part.encode())
	}
	return gossip, direct
}

// sendDirectly sends a message to every member by TCP.
func (m *Members) sendDirectly(msg []byte) {
	list := m.list.Load()
	if list == nil {
		return // the first full sync includes it
	}
	for _, n := range list.Members() {
		if n.Name == m.cfg.Node {
			continue
		}
		m.tasks.start(func(context.Context) {
			if err := list.SendReliable(n, msg); err != nil {
				m.cfg.Log.V(1).Info("sending to a speaker failed", "node", n.Name, "error", err.Error())
			}
		})
	}
}

// sendEach sends a packet that memberlist does not know to these nodes. If it is lost, the next one
// or gossip replaces it.
func (m *Members) sendEach(to []string, k kind, body []byte) {
	for _, p := range m.membership.locate(to) {
		if err := m.transport.send(k, body, p.at); err != nil {
			m.cfg.Log.V(2).Info("sending a packet failed", "node", p.node, "error", err.Error())
		}
	}
}

// receiveMessage handles a packet that memberlist does not know.
func (m *Members) receiveMessage(d delivery) {
	switch {
	case d.kind == kindNews && len(d.body) > numberSize:
		m.receiveNews(d)
	case d.kind == kindDuplicate:
		if m.transport.sessions.receiveDuplicate(d.from, d.body) {
			m.changed.now()
		}
	case d.kind == kindAck:
		m.own.acknowledged(d.node, d.body)
	}
}

// numberSize is the size of the number before a message; number 0 needs no acknowledgement.
const numberSize = 8

func newsBody(number uint64, msg []byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, numberSize+len(msg)), number), msg...)
}

// receiveNews handles a message from its author, and acknowledges it unless it is of a later term.
// If this speaker holds later facts about the author than the author published, it sends them back,
// so that the author can refute them.
func (m *Members) receiveNews(d delivery) {
	number := binary.BigEndian.Uint64(d.body)
	msg, _ := (*delegate)(m).receive(d.body[numberSize:])
	if number != 0 && !m.state.isAhead(msg) {
		m.sendEach([]string{d.node}, kindAck, newsBody(number, make([]byte, numberSize)))
	}
	published, ok := msg.Facts[d.node]
	if held := m.state.factsOf(d.node); ok && held.compare(published) > 0 {
		echo := message{Facts: map[string]versioned{d.node: held}, ToAll: true}
		m.sendEach([]string{d.node}, kindNews, newsBody(0, echo.encode()))
	}
}

// name identifies a message: a later one with the same name replaces it.
func (m message) name() string {
	for node := range m.Facts {
		return "facts/" + node
	}
	addrs := slices.SortedFunc(maps.Keys(m.Claims), netip.Addr.Compare)
	return fmt.Sprint("claims/", addrs)
}
