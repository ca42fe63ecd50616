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

// SetFacts tells the others about this node.
func (m *Members) SetFacts(f Facts) {
	m.say(func(v *versioned) { v.Facts = f })
}

// say changes what this speaker says of itself, and tells the others.
func (m *Members) say(change func(*versioned)) {
	m.mu.Lock()
	change(&m.facts)
	m.facts.Version = min(m.facts.Version, maxVersion-1) + 1
	mine := message{Facts: map[string]versioned{m.cfg.Node: m.facts}}
	m.mu.Unlock()
	m.tell(mine)
}

// tell takes in what this speaker says, and tells all others at once, each in a
// few packets, which are repeated until they are acknowledged; gossip does all where that
// would be too many.
func (m *Members) tell(msg message) {
	parts, others := msg.split(), m.others()
	if len(others) == 0 || len(parts)*len(others) > maxAtOnce {
		m.take(msg, m.queue)
		return
	}
	m.take(msg, m.repeats)
	for _, part := range parts {
		part.ToAll = true
		if b := part.encode(); len(b) <= maxPacket {
			m.mu.Lock()
			number := m.outbox.put(others, part, time.Now())
			m.mu.Unlock()
			m.sendEach(others, kindNews, newsBody(number, b))
		}
	}
}

// refute says this node's facts again, with a higher version, when others have some from an
// earlier run whose clock was ahead, or that this node never said.
func (m *Members) refute(heard versioned) {
	m.mu.Lock()
	own := m.facts
	m.mu.Unlock()
	if heard.compare(own) > 0 && heard.Term <= own.Term && own.plausible(heard) {
		m.say(func(f *versioned) { f.Version = heard.Version })
	}
}

// SetTerm changes the term of what this speaker says: after somebody had the key, a person raises it, and
// what was said before counts less. This speaker says again, in the new term, what it owns and is;
// nothing moves. Records of a later term are refused.
func (m *Members) SetTerm(term uint64) {
	m.mu.Lock()
	same := m.facts.Term == term
	m.mu.Unlock()
	if same {
		return
	}
	own := m.state.setTerm(term)
	m.say(func(f *versioned) { f.Term, f.Version = term, m.cfg.Generation })
	if len(own) > 0 {
		m.tell(message{Claims: own})
	}
}

// Claim records claims made by this node and tells the others.
func (m *Members) Claim(claims map[netip.Addr]election.Claim) {
	m.tell(message{Claims: m.state.inTerm(claims)})
}

// take merges a message and passes on what was news by a queue, unless all others hear it
// from its sender.
func (m *Members) take(msg message, queue *memberlist.TransmitLimitedQueue) {
	start := msg.Sender != "" && m.state.blank()
	news, urgent := m.state.merge(msg)
	if news.joins() {
		m.tasks.after(late, m.notify) // who has not joined by then is late
	}
	if start && len(news.Claims) > 0 {
		m.notify()
		return // who has just started has all claims from the others: it would pass on thousands that are known
	}
	switch { // of what goes around, most is heard many times
	case urgent:
		m.notify()
	case len(news.Facts) > 0:
		m.notifyEvery(opinionsTogether)
	case len(news.Claims) > 0:
		m.notifyEvery(claimsTogether)
	}
	gossip, direct := news.toPassOn(msg).packets()
	for _, b := range gossip {
		queue.QueueBroadcast(b)
	}
	for _, b := range direct {
		m.sendToAll(b)
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

// sendToAll sends a message to every member by TCP.
func (m *Members) sendToAll(msg []byte) {
	list := m.memberlist()
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
	for _, p := range m.whereabouts(to) {
		if err := m.transport.send(k, body, p.at); err != nil {
			m.cfg.Log.V(2).Info("cannot send", "node", p.node, "error", err.Error())
		}
	}
}

// hearMessage takes in a packet of our own.
func (m *Members) hearMessage(d delivery) {
	switch {
	case d.kind == kindNews && len(d.body) > numberSize:
		m.hearNews(d)
	case d.kind == kindDuplicate:
		if m.transport.sessions.told(d.from, d.body) {
			m.notify()
		}
	case d.kind == kindAck:
		m.mu.Lock()
		defer m.mu.Unlock()
		for b := d.body; len(b) >= numberSize; b = b[numberSize:] {
			m.outbox.acknowledged(d.node, binary.BigEndian.Uint64(b))
		}
	}
}

// numberSize is that of the number before news; 0 needs no acknowledgement.
const numberSize = 8

func newsBody(number uint64, msg []byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, numberSize+len(msg)), number), msg...)
}

// hearNews takes in news, straight from who says it, and acknowledges what it may believe. What others have
// said in a node's name it is told, so that it can disagree.
func (m *Members) hearNews(d delivery) {
	number := binary.BigEndian.Uint64(d.body)
	msg, _ := (*delegate)(m).hear(d.body[numberSize:])
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
