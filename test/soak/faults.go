package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

// Fault is something that breaks, or that a user changes, for a while.
type Fault interface {
	fmt.Stringer
	// Targets are what it changes. Two faults of a round have no target in common,
	// so that each can be healed without a thought for the other.
	Targets() []string
	Apply(context.Context, *world) error
	Heal(context.Context, *world) error
}

// kind is a kind of fault, and how often it is chosen beside the others.
type kind struct {
	name     string
	weight   int
	lossless bool // no client may lose a packet to it, if it comes alone
	make     func(*rand.Rand, Site) Fault
}

// allKinds are all kinds of faults. A step of a clock is none of them: a program that
// is linked statically reads the kernel's clock without a library that could be put in
// between, and a time namespace has an offset for the monotonic clock only, not for the
// wall clock. To step the machine's own clock would break everything else on it.
var allKinds = []kind{
	{"PullCable", 4, false, func(r *rand.Rand, s Site) Fault { return PullCable{s.node(r)} }},
	{"FlapCable", 2, false, func(r *rand.Rand, s Site) Fault { return FlapCable{s.node(r), 2 + r.IntN(6)} }},
	{"KillSpeaker", 4, false, func(r *rand.Rand, s Site) Fault { return KillSpeaker{s.node(r)} }},
	{"StopSpeaker", 3, true, func(r *rand.Rand, s Site) Fault { return StopSpeaker{s.node(r)} }},
	{"FreezeSpeaker", 4, false, func(r *rand.Rand, s Site) Fault { return FreezeSpeaker{s.node(r)} }},
	{"Partition", 4, false, func(r *rand.Rand, s Site) Fault { one, other := s.split(r); return Partition{one, other} }},
	{"PartitionOneWay", 3, false, func(r *rand.Rand, s Site) Fault { one, other := s.split(r); return PartitionOneWay{one, other} }},
	{"LosePackets", 2, false, func(r *rand.Rand, s Site) Fault { return LosePackets{s.node(r), 1 + r.IntN(40)} }},
	{"FreezeAPI", 2, true, func(*rand.Rand, Site) Fault { return FreezeAPI{} }},
	{"KillAPI", 2, true, func(*rand.Rand, Site) Fault { return KillAPI{} }},
	{"KillController", 2, true, func(r *rand.Rand, s Site) Fault { return KillController{1 + r.IntN(s.Controllers)} }},
	{"FreezeController", 2, true, func(r *rand.Rand, s Site) Fault { return FreezeController{1 + r.IntN(s.Controllers)} }},
	{"Cordon", 2, false, func(r *rand.Rand, s Site) Fault { return Cordon{s.node(r)} }},
	{"Drain", 2, true, func(r *rand.Rand, s Site) Fault { return Drain{s.node(r)} }},
	{"AddServices", 3, true, func(r *rand.Rand, _ Site) Fault { return AddServices{1 + r.IntN(6)} }},
	{"ReplaceService", 2, false, func(r *rand.Rand, s Site) Fault { return ReplaceService{r.IntN(s.Services), r.IntN(2) == 0} }},
	{"ShrinkPool", 2, true, func(r *rand.Rand, _ Site) Fault { return ShrinkPool{1 + r.IntN(10)} }},
	{"ExtraPool", 1, false, func(*rand.Rand, Site) Fault { return ExtraPool{} }},
	{"KillRouter", 2, false, func(r *rand.Rand, s Site) Fault { return KillRouter{s.Routers[r.IntN(len(s.Routers))]} }},
	{"RestartRouter", 1, false, func(r *rand.Rand, s Site) Fault { return RestartRouter{s.Routers[r.IntN(len(s.Routers))]} }},
	{"FreezeRouter", 2, false, func(r *rand.Rand, s Site) Fault { return FreezeRouter{s.Routers[r.IntN(len(s.Routers))]} }},
	{"RogueRouter", 4, true, func(r *rand.Rand, _ Site) Fault {
		return RogueRouter{misbehaviours[r.IntN(len(misbehaviours))].name, r.Uint64()}
	}},
	{"JunkGossip", 3, true, func(r *rand.Rand, _ Site) Fault { return JunkGossip{r.Uint64()} }},
	{"ForgeARP", 2, false, func(r *rand.Rand, s Site) Fault { return ForgeARP{r.IntN(s.Services), 1 + r.IntN(5)} }},
}

func kindNames() (out []string) {
	for _, k := range allKinds {
		out = append(out, k.name)
	}
	return out
}

// PullCable takes a node off the network.
type PullCable struct{ Node string }

func (f PullCable) String() string    { return "PullCable " + f.Node }
func (f PullCable) Targets() []string { return []string{"cable " + f.Node, "node " + f.Node} }

// Apply implements Fault.
func (f PullCable) Apply(_ context.Context, w *world) error { return w.Node(f.Node).PullCable() }

// Heal implements Fault.
func (f PullCable) Heal(_ context.Context, w *world) error { return w.Node(f.Node).PlugCable() }

// FlapCable pulls and plugs a node's cable some times, as a loose contact does.
type FlapCable struct {
	Node  string
	Times int
}

func (f FlapCable) String() string    { return fmt.Sprintf("FlapCable %s %d times", f.Node, f.Times) }
func (f FlapCable) Targets() []string { return []string{"cable " + f.Node, "node " + f.Node} }

// Apply implements Fault.
func (f FlapCable) Apply(ctx context.Context, w *world) error {
	for range f.Times {
		if err := w.Node(f.Node).PullCable(); err != nil {
			return err
		}
		w.pause(ctx, 150*time.Millisecond)
		if err := w.Node(f.Node).PlugCable(); err != nil {
			return err
		}
		w.pause(ctx, 150*time.Millisecond)
	}
	return nil
}

// Heal implements Fault.
func (f FlapCable) Heal(_ context.Context, w *world) error { return w.Node(f.Node).PlugCable() }

// KillSpeaker ends a speaker by SIGKILL and starts it again.
type KillSpeaker struct{ Node string }

func (f KillSpeaker) String() string    { return "KillSpeaker " + f.Node }
func (f KillSpeaker) Targets() []string { return []string{"node " + f.Node} }

// Apply implements Fault.
func (f KillSpeaker) Apply(_ context.Context, w *world) error { return w.speaker(f.Node).Kill() }

// Heal implements Fault.
func (f KillSpeaker) Heal(ctx context.Context, w *world) error { return w.startSpeaker(ctx, f.Node) }

// StopSpeaker ends a speaker by SIGTERM and starts it again.
type StopSpeaker struct{ Node string }

func (f StopSpeaker) String() string    { return "StopSpeaker " + f.Node }
func (f StopSpeaker) Targets() []string { return []string{"node " + f.Node} }

// stopTimeout is what the chart gives a speaker before it is killed.
const stopTimeout = 15 * time.Second

// Apply implements Fault.
func (f StopSpeaker) Apply(ctx context.Context, w *world) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	return w.speaker(f.Node).Stop(ctx)
}

// Heal implements Fault.
func (f StopSpeaker) Heal(ctx context.Context, w *world) error { return w.startSpeaker(ctx, f.Node) }

// FreezeSpeaker stops a speaker from running (SIGSTOP): its sockets stay.
type FreezeSpeaker struct{ Node string }

func (f FreezeSpeaker) String() string    { return "FreezeSpeaker " + f.Node }
func (f FreezeSpeaker) Targets() []string { return []string{"node " + f.Node} }

// Apply implements Fault.
func (f FreezeSpeaker) Apply(_ context.Context, w *world) error { return w.speaker(f.Node).Freeze() }

// Heal implements Fault.
func (f FreezeSpeaker) Heal(_ context.Context, w *world) error { return w.speaker(f.Node).Thaw() }

// Partition lets two groups of nodes no longer reach each other.
type Partition struct{ One, Other []string }

func (f Partition) String() string {
	return "Partition " + strings.Join(f.One, ",") + " | " + strings.Join(f.Other, ",")
}
func (f Partition) Targets() []string { return []string{"switch"} }

// Apply implements Fault.
func (f Partition) Apply(_ context.Context, w *world) error { return w.Partition(f.One, f.Other) }

// Heal implements Fault.
func (f Partition) Heal(_ context.Context, w *world) error { return w.Lab.Heal() }

// PartitionOneWay drops what one group of nodes sends to another; the way back is open.
type PartitionOneWay struct{ From, To []string }

func (f PartitionOneWay) String() string {
	return "PartitionOneWay " + strings.Join(f.From, ",") + " > " + strings.Join(f.To, ",")
}
func (f PartitionOneWay) Targets() []string { return []string{"switch"} }

// Apply implements Fault.
func (f PartitionOneWay) Apply(_ context.Context, w *world) error {
	return w.Lab.PartitionOneWay(f.From, f.To)
}

// Heal implements Fault.
func (f PartitionOneWay) Heal(_ context.Context, w *world) error { return w.Lab.Heal() }

// LosePackets drops some of a node's packets, chosen at random.
type LosePackets struct {
	Node    string
	Percent int
}

func (f LosePackets) String() string    { return fmt.Sprintf("LosePackets %s %d %%", f.Node, f.Percent) }
func (f LosePackets) Targets() []string { return []string{"switch"} }

// Apply implements Fault.
func (f LosePackets) Apply(_ context.Context, w *world) error { return w.Lose(f.Percent, f.Node) }

// Heal implements Fault.
func (f LosePackets) Heal(_ context.Context, w *world) error { return w.Lab.Heal() }

// FreezeAPI lets the API server hang.
type FreezeAPI struct{}

func (FreezeAPI) String() string    { return "FreezeAPI" }
func (FreezeAPI) Targets() []string { return []string{"api"} }

// Apply implements Fault.
func (FreezeAPI) Apply(_ context.Context, w *world) error { return w.Lab.FreezeAPI() }

// Heal implements Fault.
func (FreezeAPI) Heal(_ context.Context, w *world) error { return w.ThawAPI() }

// KillAPI lets the API server crash, and starts it again.
type KillAPI struct{}

func (KillAPI) String() string    { return "KillAPI" }
func (KillAPI) Targets() []string { return []string{"api"} }

// Apply implements Fault.
func (KillAPI) Apply(_ context.Context, w *world) error { return w.Lab.KillAPI() }

// Heal implements Fault.
func (KillAPI) Heal(ctx context.Context, w *world) error { return w.StartAPI(ctx) }

// KillController ends a controller by SIGKILL and starts it again.
type KillController struct{ Number int }

func (f KillController) String() string    { return fmt.Sprintf("KillController %d", f.Number) }
func (f KillController) Targets() []string { return []string{"controller"} }

// Apply implements Fault.
func (f KillController) Apply(_ context.Context, w *world) error {
	return w.controller(f.Number).Kill()
}

// Heal implements Fault.
func (f KillController) Heal(ctx context.Context, w *world) error { return w.reviveControllers(ctx) }

// FreezeController stops a controller from running. If it led, another one takes over,
// and it ends when it runs again, as it is to.
type FreezeController struct{ Number int }

func (f FreezeController) String() string    { return fmt.Sprintf("FreezeController %d", f.Number) }
func (f FreezeController) Targets() []string { return []string{"controller"} }

// Apply implements Fault.
func (f FreezeController) Apply(_ context.Context, w *world) error {
	return w.controller(f.Number).Freeze()
}

// Heal implements Fault.
func (f FreezeController) Heal(_ context.Context, w *world) error {
	return w.controller(f.Number).Thaw()
}

// Cordon marks a node unschedulable, as before maintenance.
type Cordon struct{ Node string }

func (f Cordon) String() string    { return "Cordon " + f.Node }
func (f Cordon) Targets() []string { return []string{"api", "object " + f.Node} }

// Apply implements Fault.
func (f Cordon) Apply(ctx context.Context, w *world) error { return f.set(ctx, w, true) }

// Heal implements Fault.
func (f Cordon) Heal(ctx context.Context, w *world) error { return f.set(ctx, w, false) }

func (f Cordon) set(ctx context.Context, w *world, is bool) error {
	patch := fmt.Sprintf(`{"spec":{"unschedulable":%t}}`, is)
	return w.merge(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: f.Node}}, patch)
}

// Drain has the other speakers take over what a node's speaker announces, by the
// annotation that `kubectl fairlead drain` writes.
type Drain struct{ Node string }

func (f Drain) String() string    { return "Drain " + f.Node }
func (f Drain) Targets() []string { return []string{"api", "object " + f.Node} }

// Apply implements Fault.
func (f Drain) Apply(ctx context.Context, w *world) error { return f.set(ctx, w, `"soak"`) }

// Heal implements Fault.
func (f Drain) Heal(ctx context.Context, w *world) error { return f.set(ctx, w, "null") }

func (f Drain) set(ctx context.Context, w *world, value string) error {
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%s}}}`, v1alpha1.AnnotationDrain, value)
	return w.merge(ctx, &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: f.Node}}, patch)
}

// AddServices creates Services, half of them with addresses for BGP, and deletes them.
type AddServices struct{ Count int }

func (f AddServices) String() string    { return fmt.Sprintf("AddServices %d", f.Count) }
func (f AddServices) Targets() []string { return []string{"api", "services"} }

// Apply implements Fault.
func (f AddServices) Apply(ctx context.Context, w *world) error {
	for i := range f.Count {
		if err := w.createService(ctx, fmt.Sprint("extra-", i), i%2 == 1); err != nil {
			return err
		}
	}
	return nil
}

// Heal implements Fault.
func (f AddServices) Heal(ctx context.Context, w *world) error {
	for i := range f.Count {
		if err := w.deleteService(ctx, fmt.Sprint("extra-", i)); err != nil {
			return err
		}
	}
	return nil
}

// ReplaceService deletes a Service and creates one of the same name, which may get
// another address.
type ReplaceService struct {
	Index int
	BGP   bool
}

func (f ReplaceService) String() string    { return "ReplaceService " + serviceName(f.Index, f.BGP) }
func (f ReplaceService) Targets() []string { return []string{"api", "services"} }

// Apply implements Fault.
func (f ReplaceService) Apply(ctx context.Context, w *world) error {
	return w.deleteService(ctx, serviceName(f.Index, f.BGP))
}

// Heal implements Fault.
func (f ReplaceService) Heal(ctx context.Context, w *world) error {
	return w.createService(ctx, serviceName(f.Index, f.BGP), f.BGP)
}

// ShrinkPool takes the first addresses out of the pool for layer 2, where they are in
// use, and puts them back. Nobody may lose one.
type ShrinkPool struct{ By int }

func (f ShrinkPool) String() string    { return fmt.Sprintf("ShrinkPool by %d", f.By) }
func (f ShrinkPool) Targets() []string { return []string{"api", "pool"} }

// Apply implements Fault.
func (f ShrinkPool) Apply(ctx context.Context, w *world) error { return f.set(ctx, w, f.By) }

// Heal implements Fault.
func (f ShrinkPool) Heal(ctx context.Context, w *world) error { return f.set(ctx, w, 0) }

func (f ShrinkPool) set(ctx context.Context, w *world, by int) error {
	patch := fmt.Sprintf(`{"spec":{"addresses":["172.30.0.%d-172.30.0.%d","fd30::%d-fd30::%d"]}}`, firstLayer2+by, lastLayer2, firstLayer2+by, lastLayer2)
	return w.merge(ctx, &v1alpha1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: layer2Pool}}, patch)
}

// ExtraPool creates a pool, which nobody asked for, and deletes it.
type ExtraPool struct{}

func (ExtraPool) String() string    { return "ExtraPool" }
func (ExtraPool) Targets() []string { return []string{"api", "pool"} }

func (ExtraPool) object() *v1alpha1.IPAddressPool {
	return &v1alpha1.IPAddressPool{
		ObjectMeta: metav1.ObjectMeta{Name: "extra"},
		Spec:       v1alpha1.IPAddressPoolSpec{Addresses: []v1alpha1.AddressRange{"172.30.0.60-172.30.0.69"}, AutoAssign: new(bool)},
	}
}

// Apply implements Fault.
func (f ExtraPool) Apply(ctx context.Context, w *world) error {
	return client.IgnoreAlreadyExists(w.api.Create(ctx, f.object()))
}

// Heal implements Fault.
func (f ExtraPool) Heal(ctx context.Context, w *world) error {
	return client.IgnoreNotFound(w.api.Delete(ctx, f.object()))
}

// KillRouter lets a router's daemons crash, and starts them again.
type KillRouter struct{ Router string }

func (f KillRouter) String() string    { return "KillRouter " + f.Router }
func (f KillRouter) Targets() []string { return []string{"router " + f.Router} }

// Apply implements Fault.
func (f KillRouter) Apply(_ context.Context, w *world) error { return w.router(f.Router).Kill() }

// Heal implements Fault.
func (f KillRouter) Heal(ctx context.Context, w *world) error {
	return w.router(f.Router).Start(ctx)
}

// RestartRouter stops a router in an orderly way, and starts it again.
type RestartRouter struct{ Router string }

func (f RestartRouter) String() string    { return "RestartRouter " + f.Router }
func (f RestartRouter) Targets() []string { return []string{"router " + f.Router} }

// Apply implements Fault.
func (f RestartRouter) Apply(ctx context.Context, w *world) error {
	return w.router(f.Router).Stop(ctx)
}

// Heal implements Fault.
func (f RestartRouter) Heal(ctx context.Context, w *world) error {
	return w.router(f.Router).Start(ctx)
}

// FreezeRouter stops a router's daemons from running: it forwards, and answers no peer.
type FreezeRouter struct{ Router string }

func (f FreezeRouter) String() string    { return "FreezeRouter " + f.Router }
func (f FreezeRouter) Targets() []string { return []string{"router " + f.Router} }

// Apply implements Fault.
func (f FreezeRouter) Apply(_ context.Context, w *world) error { return w.router(f.Router).Freeze() }

// Heal implements Fault.
func (f FreezeRouter) Heal(_ context.Context, w *world) error { return w.router(f.Router).Thaw() }

// RogueRouter is a BGP router, a peer of all nodes, that does not keep to the protocol.
type RogueRouter struct {
	Misbehaviour string
	Seed         uint64 // of what it sends
}

func (f RogueRouter) String() string    { return "RogueRouter " + f.Misbehaviour }
func (f RogueRouter) Targets() []string { return []string{"rogue"} }

// Apply implements Fault.
func (f RogueRouter) Apply(_ context.Context, w *world) error {
	return w.startRogue(f.Misbehaviour, f.Seed)
}

// Heal implements Fault.
func (f RogueRouter) Heal(_ context.Context, w *world) error { return w.stopRogue() }

// JunkGossip sends random bytes to the gossip port of all nodes, by UDP and TCP.
type JunkGossip struct{ Seed uint64 }

func (f JunkGossip) String() string    { return "JunkGossip" }
func (f JunkGossip) Targets() []string { return []string{"gossip"} }

// Apply implements Fault.
func (f JunkGossip) Apply(_ context.Context, w *world) error {
	w.junk = startJunk(w.Observer, w.Nodes, f.Seed)
	return nil
}

// Heal implements Fault.
func (f JunkGossip) Heal(_ context.Context, w *world) error {
	w.junk.stop()
	return nil
}

// ForgeARP broadcasts ARP replies that name a MAC which no machine has for the address
// of a Service.
type ForgeARP struct{ Index, Frames int }

func (f ForgeARP) String() string {
	return fmt.Sprintf("ForgeARP %d frames for %s", f.Frames, serviceName(f.Index, false))
}
func (f ForgeARP) Targets() []string { return []string{"forged ARP"} }

// Apply implements Fault.
func (f ForgeARP) Apply(ctx context.Context, w *world) error {
	ip := w.knownAddress(serviceName(f.Index, false))
	if !ip.Is4() {
		return nil // the Service is not there in this round
	}
	for range f.Frames {
		if err := w.Observer.ForgeARP(ip, net.HardwareAddr{0x02, 0, 0, 0, 0xff, 0x99}); err != nil {
			return err
		}
		w.pause(ctx, 50*time.Millisecond)
	}
	return nil
}

// Heal implements Fault: the frames are gone by themselves.
func (f ForgeARP) Heal(context.Context, *world) error { return nil }
