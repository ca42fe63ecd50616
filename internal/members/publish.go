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
	// retransmitMult x log10(nodes+1), rounded up, is how often each node that has
	// news passes it on. With memberlist's usual 4, one delivery in a hundred among
	// seven nodes came only with the next full sync, without any packet lost: some
	// are sent to nodes that are dead, and who has the news already has it again.
	retransmitMult = 12

	// repeatMult is the same for what its sender has told all others already: for the few
	// who missed that. It is memberlist's usual one.
	repeatMult = 4

	// maxPacket is what fits into one of memberlist's packets beside its own headers.
	maxPacket = 1200

	// maxAtOnce is how many packets a speaker sends at once.
	maxAtOnce = 1000

	// What others settle between them is looked at together: whom watchers hear, which
	// may be one that was dead, and claims, which tell this node nothing to do.
	opinionsTogether = 100 * time.Millisecond
	claimsTogether   = 500 * time.Millisecond
)

// SetFacts tells the others about this node.
func (m *Members) SetFacts(f Facts) {
	m.publish(func(v *versioned) { v.Facts = f })
}

// publish changes what this speaker says of itself, and sends it to the others.
func (m *Members) publish(change func(*versioned)) { m.sendToOthers(m.own.update(change)) }

// sendToOthers takes in what this speaker says, and sends it to all others at once, each in a
// few packets, which are repeated until they are acknowledged; gossip does all where that
// would be too many.
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

// refute says this node's facts again, with a higher version, when others have some from an
// earlier run whose clock was ahead, or that this node never said.
func (m *Members) refute(heard versioned) {
	own := m.own.get()
	if heard.compare(own) > 0 && heard.Term <= own.Term && own.plausible(heard) {
		m.publish(func(f *versioned) { f.Version = heard.Version })
	}
}

// SetTerm changes the term of what this speaker says: after somebody had the key, a person raises it, and
// what was said before counts less. This speaker says again, in the new term, what it owns and is;
// nothing moves. Records of a later term are refused.
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

// Claim records claims made by this node and tells the others.
func (m *Members) Claim(claims map[netip.Addr]election.Claim) {
	m.sendToOthers(message{Claims: m.state.inTerm(claims)})
}

// merge takes in a message and passes on what was news by a queue, unless all others hear it
// from its sender.
func (m *Members) merge(msg message, queue *memberlist.TransmitLimitedQueue) {
	start := msg.Sender != "" && m.state.blank()
	news, urgent := m.state.merge(msg)
	if news.joins() {
		m.changed.in(late) // who has not joined by then is late
	}
	if start && len(news.Claims) > 0 {
		m.changed.now()
		return // who has just started has all claims from the others: it would pass on thousands that are known
	}
	switch { // of what goes around, most is heard many times
	case urgent:
		m.changed.now()
	case len(news.Facts) > 0:
		m.changed.every(opinionsTogether)
	case len(news.Claims) > 0:
		m.changed.every(claimsTogether)
	}
	gossip, direct := news.toPassOn(msg).packets()
	for _, b := range gossip {
		queue.QueueBroadcast(b)
	}
	for _, b := range direct {
		m.sendDirectly(b)
	}
}

// packets is the message as it is sent: in parts that gossip passes on, and those that
// do not fit into a packet, which go to all directly. Nobody passes these on: each
// would do that by as many connections.
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
		return // it goes with the first full sync
	}
	for _, n := range list.Members() {
		if n.Name == m.cfg.Node {
			continue
		}
		m.tasks.start(func(context.Context) {
			if err := list.SendReliable(n, msg); err != nil {
				m.cfg.Log.V(1).Info("cannot tell a speaker", "node", n.Name, "error", err.Error())
			}
		})
	}
}

// sendEach sends a packet of a kind of our own to these nodes. One that is lost is made
// good by the next, or by gossip.
func (m *Members) sendEach(to []string, k kind, body []byte) {
	for _, p := range m.membership.locate(to) {
		if err := m.transport.send(k, body, p.at); err != nil {
			m.cfg.Log.V(2).Info("cannot send", "node", p.node, "error", err.Error())
		}
	}
}

// receiveMessage takes in a packet of our own.
func (m *Members) receiveMessage(d delivery) {
	switch {
	case d.kind == kindNews && len(d.body) > numberSize:
		m.receiveNews(d)
	case d.kind == kindDuplicate:
		if m.transport.sessions.told(d.from, d.body) {
			m.changed.now()
		}
	case d.kind == kindAck:
		m.own.acknowledged(d.node, d.body)
	}
}

// numberSize is that of the number before news; 0 needs no acknowledgement.
const numberSize = 8

func newsBody(number uint64, msg []byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, numberSize+len(msg)), number), msg...)
}

// receiveNews takes in news, straight from who says it, and acknowledges what it may believe. What others have
// said in a node's name it is told, so that it can disagree.
func (m *Members) receiveNews(d delivery) {
	number := binary.BigEndian.Uint64(d.body)
	msg, _ := (*delegate)(m).receive(d.body[numberSize:])
	if number != 0 && !m.state.isAhead(msg) {
		m.sendEach([]string{d.node}, kindAck, newsBody(number, make([]byte, numberSize)))
	}
	said, itself := msg.Facts[d.node]
	if held := m.state.factsOf(d.node); itself && held.compare(said) > 0 {
		echo := message{Facts: map[string]versioned{d.node: held}, ToAll: true}
		m.sendEach([]string{d.node}, kindNews, newsBody(0, echo.encode()))
	}
}

// name is the same for messages of which the later one replaces the earlier.
func (m message) name() string {
	for node := range m.Facts {
		return "facts/" + node
	}
	addrs := slices.SortedFunc(maps.Keys(m.Claims), netip.Addr.Compare)
	return fmt.Sprint("claims/", addrs)
}
