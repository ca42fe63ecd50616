package members

import (
	"context"
	"net/netip"
	"strings"

	"github.com/go-logr/logr"
	"github.com/hashicorp/memberlist"
)

// broadcast is a message in memberlist's queue.
type broadcast struct {
	name string
	msg  []byte
}

var _ memberlist.NamedBroadcast = (*broadcast)(nil)

func (b *broadcast) Name() string    { return b.name }
func (b *broadcast) Message() []byte { return b.msg }
func (b *broadcast) Finished()       {}

func (b *broadcast) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(*broadcast)
	return ok && o.name == b.name
}

// delegate is Members as memberlist calls it.
type delegate Members

var (
	_ memberlist.Delegate      = (*delegate)(nil)
	_ memberlist.EventDelegate = (*delegate)(nil)
	_ memberlist.AliveDelegate = (*delegate)(nil)
)

func (d *delegate) members() *Members { return (*Members)(d) }

// NodeMeta returns nothing: facts are not bound by its limit of 512 bytes.
func (d *delegate) NodeMeta(int) []byte { return nil }

func (d *delegate) NotifyMsg(b []byte) { d.receive(b) }

// receive takes in a message, and returns it. inSync says that its sender and this speaker
// know the same now, or that this one has heard all that the other knows.
func (d *delegate) receive(b []byte) (msg message, inSync bool) {
	msg, err := decode(b)
	if err != nil {
		d.cfg.Log.V(1).Info("ignored a gossip message", "error", err.Error())
		return message{}, false
	}
	inSync = msg.Sender != "" && (msg.Digest == nil || *msg.Digest == d.state.digest())
	if inSync {
		d.membership.synced(msg.Sender)
		d.changed.in(d.timers.silence)
	}
	if heard, ok := msg.Facts[d.cfg.Node]; ok {
		delete(msg.Facts, d.cfg.Node)
		d.members().refute(heard)
	}
	d.members().merge(msg, d.queue)
	return msg, inSync
}

func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	out := d.queue.GetBroadcasts(overhead, limit)
	for _, b := range out {
		limit -= overhead + len(b)
	}
	return append(out, d.repeats.GetBroadcasts(overhead, limit)...)
}

// LocalState is what a full sync sends: everything to who joins. Others know the same,
// mostly, and are told a digest.
func (d *delegate) LocalState(join bool) []byte {
	if join {
		return d.state.encoded(d.cfg.Node)
	}
	sum := d.state.digest()
	return message{Sender: d.cfg.Node, Digest: &sum}.encode()
}

// MergeRemoteState is what a full sync hears. If the digests differ both send
// everything.
func (d *delegate) MergeRemoteState(b []byte, join bool) {
	msg, inSync := d.receive(b)
	if !join && msg.Digest != nil && !inSync {
		d.tasks.start(func(context.Context) { d.members().sendState(msg.Sender) })
	}
}

// NotifyAlive refuses what cannot be a speaker.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	if _, ok := netip.AddrFromSlice(n.Addr); !ok || !validName(n.Name) || n.Port == 0 {
		return errMalformed
	}
	return nil
}

func (d *delegate) NotifyJoin(n *memberlist.Node) {
	d.cfg.Log.V(1).Info("speaker joined", "node", n.Name, "address", n.Address())
	d.NotifyUpdate(n)
}

func (d *delegate) NotifyLeave(n *memberlist.Node) {
	d.cfg.Log.V(1).Info("speaker left or died", "node", n.Name)
	d.membership.died(n.Name)
	d.changed.now()
	d.changed.in(d.timers.silence)
	// It may have denied a suspicion, and this one not have heard of that: then it does now.
	// memberlist holds its locks, so that this must not wait.
	if name := n.Name; name != d.cfg.Node {
		d.tasks.start(func(context.Context) { d.members().syncWith(name) })
	}
}

func (d *delegate) NotifyUpdate(n *memberlist.Node) {
	ip, _ := netip.AddrFromSlice(n.Addr)
	d.membership.joined(n.Name, netip.AddrPortFrom(ip.Unmap(), n.Port))
	d.changed.now()
}

// logWriter passes memberlist's log lines on as debug lines: what matters to a
// person shows in the Speaker objects.
type logWriter struct{ log logr.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.log.V(2).Info(strings.TrimSpace(string(p)))
	return len(p), nil
}
