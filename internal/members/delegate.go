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

// NodeMeta returns nothing: facts may be longer than its limit of 512 bytes.
func (d *delegate) NodeMeta(int) []byte { return nil }

func (d *delegate) NotifyMsg(b []byte) { d.receive(b) }

// receive handles a message, and returns it. inSync reports that its sender and this speaker
// hold the same records now, or that the message had all records of the sender.
func (d *delegate) receive(b []byte) (msg message, inSync bool) {
	msg, err := decode(b)
	if err != nil {
		d.cfg.Log.V(1).Info("ignored an invalid gossip message", "error", err.Error())
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

// LocalState is what this speaker sends in a full sync: all records if the other one joins. Other
// speakers mostly hold the same records, and get a digest.
func (d *delegate) LocalState(join bool) []byte {
	if join {
		return d.state.encoded(d.cfg.Node)
	}
	sum := d.state.digest()
	return message{Sender: d.cfg.Node, Digest: &sum}.encode()
}

// MergeRemoteState handles what the other speaker sent in a full sync. If the digests differ, both
// send all records.
func (d *delegate) MergeRemoteState(b []byte, join bool) {
	msg, inSync := d.receive(b)
	if !join && msg.Digest != nil && !inSync {
		d.tasks.start(func(context.Context) { d.members().sendState(msg.Sender) })
	}
}

// NotifyAlive refuses nodes that cannot be speakers.
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
	// The node may have refuted a suspicion, and this speaker have missed that: a sync corrects it.
	// memberlist holds its locks here, so that this must not block.
	if name := n.Name; name != d.cfg.Node {
		d.tasks.start(func(context.Context) { d.members().syncWith(name) })
	}
}

func (d *delegate) NotifyUpdate(n *memberlist.Node) {
	ip, _ := netip.AddrFromSlice(n.Addr)
	d.membership.joined(n.Name, netip.AddrPortFrom(ip.Unmap(), n.Port))
	d.changed.now()
}

// logWriter writes memberlist's log lines at debug level: what users need is in the Speaker
// objects.
type logWriter struct{ log logr.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.log.V(2).Info(strings.TrimSpace(string(p)))
	return len(p), nil
}
