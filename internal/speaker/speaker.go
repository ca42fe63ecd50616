// Package speaker runs the speaker of one node: it gathers the state of the cluster, the
// network and the other speakers, has package plan decide, and carries the plan out.
package speaker

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/members"
	"github.com/fairlead-lb/fairlead/internal/mirror"
	"github.com/fairlead-lb/fairlead/internal/netif"
	"github.com/fairlead-lb/fairlead/internal/nodecheck"
	"github.com/fairlead-lb/fairlead/internal/notify"
	"github.com/fairlead-lb/fairlead/internal/plan"
	"github.com/fairlead-lb/fairlead/internal/retry"
	"github.com/fairlead-lb/fairlead/internal/routing"
	"github.com/fairlead-lb/fairlead/internal/speakerstatus"
)

const (
	// tickInterval is how often the loop retries what failed, such as to open an interface,
	// and reads the kernel's settings.
	tickInterval = 1500 * time.Millisecond
	// minTurnInterval is the least time from one turn of the loop to the next: when a node
	// is dead, a hundred others claim what it owned, each at its own moment.
	minTurnInterval = 10 * time.Millisecond
)

// Speaker runs one node's speaker.
type Speaker struct {
	Deps
	cfg     Config
	log     logr.Logger
	cluster *mirror.Cluster
	status  *speakerstatus.Writer
	links   notify.Signal // interfaces changed
	timer   notify.Signal // something is due that only time brings

	// The loop owns these, but for what membership says.
	membership  membership
	host        host
	ownership   ownership
	health      health
	mover       mover
	peers       peers
	inputs      inputs
	planner     plan.Planner
	standby     []string   // interfaces on which this node could announce
	macVersions [2]uint64  // of the MACs that layer 2 has
	take        netip.Addr // to be taken over in this turn, as a user wants; or none
}

// New returns a Speaker that does nothing until Start.
func New(cfg Config, deps Deps) *Speaker {
	return &Speaker{
		Deps:       deps,
		cfg:        cfg,
		log:        cfg.Log,
		cluster:    mirror.New(cfg.Class, cfg.Node, cfg.Family),
		status:     newStatusWriter(cfg),
		links:      notify.New(),
		timer:      notify.New(),
		membership: newMembership(cfg),
		host:       host{system: deps.Interfaces, kernel: deps.Kernel, bind: cfg.Bind, unchecked: fullCheckTicks},
		ownership:  newOwnership(cfg.Log),
		mover:      mover{now: time.Now},
	}
}

// Joined reports whether the speaker takes part; before that it owns nothing. It is safe for
// concurrent use.
func (s *Speaker) Joined() bool { return s.membership.joined.Load() }

// +kubebuilder:rbac:groups="",resources=nodes,verbs=get
// +kubebuilder:rbac:groups=fairlead.dev,resources=speakers,verbs=get;list

// Start runs the speaker until ctx ends:
//
//  1. The other speakers learn that this one exists and has not joined yet.
//  2. It finds them (join), and may own addresses then.
//  3. It announces what it owns (loop).
//  4. It hands that over (leave).
//  5. It stops answering, and says so (stop).
func (s *Speaker) Start(ctx context.Context) error {
	s.cfg.Metrics.Sessions(s.Routes.Measure)
	s.cfg.Metrics.Layer2(s.queries)
	s.cfg.Metrics.Gossip(s.Gossip.Drops)
	s.readRoutes(true)
	s.readInterfaces(ctx)
	if err := s.Gossip.Start(); err != nil {
		return err
	}
	defer s.stop(context.WithoutCancel(ctx))
	// What is needed to hand over must outlive ctx.
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	g, background := errgroup.WithContext(background)
	for _, task := range []func(context.Context) error{
		func(ctx context.Context) error { return s.Interfaces.Watch(ctx, s.links.Poke) },
		func(ctx context.Context) error {
			s.cluster.Follow(ctx, s.cfg.API, s.cfg.Conn, s.cfg.Namespace)
			return nil
		},
		func(ctx context.Context) error { s.status.Run(ctx); return nil },
		func(ctx context.Context) error { s.Proxy.Run(ctx); return nil },
		func(ctx context.Context) error { s.Routes.Run(ctx); return nil },
		func(ctx context.Context) error { s.searchLost(ctx); return nil },
	} {
		g.Go(func() error { return task(background) })
	}
	err := s.join(ctx)
	if err == nil {
		err = s.loop(ctx, background)
		s.leave(context.WithoutCancel(background))
	}
	cancel()
	s.membership.searches.Wait()
	return errors.Join(err, g.Wait())
}

// loop takes a turn whenever something has changed, until ctx ends.
func (s *Speaker) loop(ctx, background context.Context) error {
	tick := time.NewTicker(tickInterval)
	defer tick.Stop()
	for {
		began := time.Now()
		s.yieldNodeName(background)
		s.assess(background)
		if err := s.checkAddress(s.cluster.GossipAddress()); err != nil {
			return err
		}
		s.turn()
		select {
		case <-ctx.Done():
			return nil
		case <-background.Done():
			return context.Cause(background)
		case <-s.cluster.Changed():
		case <-s.timer:
		case <-s.Gossip.Changed():
		case <-s.Layer2.Changed():
		case <-s.DHCP.Changed():
		case <-s.Proxy.Changed():
		case <-s.Routes.Changed():
		case <-s.Routes.PathsChanged():
		case <-s.cfg.Clock.Changed():
		case <-s.links:
			s.readRoutes(true)
			s.readInterfaces(background)
			s.Layer2.RetryInterfaces()
			s.Routes.Readdress()
			s.host.checkSoon()
		case <-s.Gossip.Lapsed():
			s.cfg.Metrics.Lapses.Inc()
			s.rejoin(background)
		case <-s.membership.searched:
			if s.membership.searching.Load() == 0 {
				s.hasJoined()
			}
		case <-tick.C:
			s.readRoutes(false)
			s.readInterfaces(background)
			s.checkKernel()
		}
		if retry.Sleep(ctx, minTurnInterval-time.Since(began)) != nil {
			return nil
		}
	}
}

// turn brings what this node announces in line with the present state, once. It returns the
// plan.
func (s *Speaker) turn() plan.Plan {
	// 1. Gossip with the keys and about the state of this node as they are now.
	s.updateKeys()
	orders := s.cluster.Orders()
	s.updateHealth(orders.Drain)
	view := s.Gossip.View()
	s.membership.unheard.set(view.Unheard)
	s.setRival(view)

	// 2. Decide.
	snapshot := s.snapshot(view)
	p := s.planner.Make(snapshot)
	s.standby = p.Standby
	if len(p.Claims) > 0 {
		s.Gossip.Claim(p.Claims)
	}

	// 3. Announce by layer 2.
	s.setClusterMACs(view)
	rows := s.ownership.withoutYielded(p.Announcements, s.host.severed, s.Layer2.ClaimedByNodes)
	inForce, err := s.Layer2.Apply(rows, p.Standby, s.host.interfaces)
	if why := s.updateFailures(); err == nil {
		err = why
	}
	s.countTakeovers(&snapshot, p)
	s.Layer2.Reannounce(s.Gossip.Contested())
	s.followDHCP()

	// 4. Advertise by BGP. It needs no gossip: a speaker that takes no part in that still
	// serves its routers. While the others are searched for, it is not known what they
	// announce, so what routers were told stays as it is.
	if (snapshot.Joined || s.membership.standing.Out) && !s.membership.leaving {
		s.obey(orders, &snapshot, p)
		s.wakeAfter(s.Routes.Apply(routing.Wanted(s.cluster.Routers()), p.Routes, snapshot.Version, s.host.interfaces))
	}

	// 5. Report.
	s.report(inForce, p.Users, len(view.Alive), err)
	return p
}

// wakeAfter has the loop take a turn after d; 0 is never.
func (s *Speaker) wakeAfter(d time.Duration) {
	if d > 0 {
		time.AfterFunc(d, s.timer.Poke)
	}
}

// snapshot returns what the plan depends on.
func (s *Speaker) snapshot(view members.View) plan.Snapshot {
	speakers, version := s.peers.of(view)
	out := plan.Snapshot{
		Node: s.cfg.Node, Joined: s.Joined(), Claims: view.Claims, Moved: view.Moved, Fresh: view.Fresh, Speakers: speakers,
		Known: s.cluster.SpeakerCount(), CutOff: view.CutOff, Severed: s.host.severed, Disputed: s.disputed(view),
		AnnouncedOn: s.ownership.on, Take: s.take,
	}
	if s.Gossip.Beating() { // else others may have it: what they claimed is not to be claimed back
		out.Announced = s.ownership.announced
	}
	out.Version = s.inputs.at(s.cluster.Fill(&out), version)
	return out
}

// disputed returns the addresses that speakers leave to foreign hosts, by their Speaker objects,
// and by gossip while the API server is away.
func (s *Speaker) disputed(v members.View) map[netip.Addr]bool {
	out := s.cluster.DisputedAddresses()
	for _, f := range v.Facts {
		for _, addr := range f.Disputed {
			out[addr] = true
		}
	}
	return out
}

// readInterfaces reads the interfaces, and publishes a change.
func (s *Speaker) readInterfaces(ctx context.Context) {
	changed, restored, err := s.host.readInterfaces(s.cluster.NamedInterfaces())
	switch {
	case err != nil:
		s.log.Error(err, "cannot read the interfaces; keeping those read before")
	case restored:
		s.rejoin(ctx)
	case changed:
		s.publishFacts()
	}
}

func (s *Speaker) readRoutes(changed bool) {
	if err := s.host.readRoutes(changed); err != nil {
		s.log.Error(err, "cannot read the routing table; keeping the one read before")
	}
}

// checkKernel reads what in the node's kernel may interfere with announcing.
func (s *Speaker) checkKernel() {
	if err := s.host.check(s.standby); err != nil {
		s.log.Error(err, "cannot read what may interfere with announcing; keeping what was found before")
		return
	}
	s.updateFindings()
}

// followDHCP reads which addresses of pools DHCP servers lease, where this node could announce
// them.
func (s *Speaker) followDHCP() {
	candidates := slices.DeleteFunc(slices.Clone(s.host.interfaces), func(i netif.Interface) bool { return !i.Up || !slices.Contains(s.standby, i.Name) })
	leases, err := s.DHCP.Follow(candidates, s.cluster.PoolSet())
	s.health.dhcp.set(s.log, err, "cannot receive DHCP on every interface; retrying")
	if !slices.Equal(leases, s.health.leases) {
		s.health.leases = leases
		s.updateFindings()
	}
}

// setRival records another machine with this node's name, if this one was there first.
func (s *Speaker) setRival(view members.View) {
	if rival := rivalOf(view, s.cfg); rival != s.membership.rival {
		s.membership.rival = rival
		s.updateFindings()
	}
}

// updateFindings finds what interferes with announcing, by the last look at the kernel and by
// what was received.
func (s *Speaker) updateFindings() {
	facts := s.host.facts
	facts.Leases, facts.Rival, facts.Own = s.health.leases, s.membership.rival, slices.Concat(s.cluster.NodeAddresses(), []netip.Addr{s.cfg.Bind})
	s.health.findings = nodecheck.Check(facts, &s.planner, s.standby)
}

// updateHealth publishes whether other nodes are preferred to this one.
func (s *Speaker) updateHealth(drained bool) {
	if failing := s.Proxy.Failing(); drained != s.health.drained || failing != s.health.unproxied {
		s.health.drained, s.health.unproxied = drained, failing
		s.publishFacts()
	}
}

// updateFailures publishes which interfaces cannot be opened: other nodes take over what was to
// be announced there. It returns why.
func (s *Speaker) updateFailures() error {
	fails, why := s.Layer2.FailedInterfaces()
	if !maps.EqualFunc(fails, s.health.fails, slices.Equal) {
		s.health.fails = fails
		s.publishFacts()
	}
	return why
}

// publishFacts has the other speakers know the state of this node.
func (s *Speaker) publishFacts() {
	s.Gossip.SetFacts(members.Facts{
		Interfaces: s.usableInterfaces(), Joined: s.Joined(), Leaving: s.membership.leaving,
		Drained: s.health.drained, Unproxied: s.health.unproxied, Disputed: s.ownership.left,
	})
}

// usableInterfaces returns the interfaces with the families for which they cannot be used.
func (s *Speaker) usableInterfaces() []netif.Interface {
	out := slices.Clone(s.host.interfaces)
	for i := range out {
		out[i].Fails = s.health.fails[out[i].Name]
	}
	return out
}

// setClusterMACs passes the nodes' hardware addresses to layer 2 when they have changed.
func (s *Speaker) setClusterMACs(v members.View) {
	versions := [...]uint64{v.FactsVersion, s.cluster.MACsVersion()}
	if versions == s.macVersions {
		return
	}
	s.macVersions = versions
	macs := map[string]bool{}
	for _, mac := range s.cluster.NodeMACs() {
		macs[mac] = true
	}
	others := s.cluster.Others()
	for node, f := range v.Facts { // also of nodes that are not alive, but not of nodes that left the cluster
		if _, there := others[node]; !there && node != s.cfg.Node {
			continue
		}
		for _, i := range f.Interfaces {
			macs[i.MAC] = true
		}
	}
	s.Layer2.SetClusterMACs(macs)
}

// report records what this node announces, and has the Speaker object and the metrics say it.
func (s *Speaker) report(inForce []lb.L2Announcement, users map[netip.Addr][]lb.ServiceKey, alive int, failed error) {
	s.ownership.set(inForce)
	if s.membership.duplicate {
		return // the Speaker object is the first machine's
	}
	conflicts := s.Layer2.Conflicts()
	begun, leftChanged := s.ownership.setConflicts(conflicts)
	if leftChanged {
		s.publishFacts()
	}
	s.count(alive, begun)
	r := speakerstatus.Report{
		Interfaces: s.usableInterfaces(), HostAddresses: s.host.others, Keys: s.membership.keyring.used,
		Owned: inForce, Users: users, Since: s.ownership.since, Conflicts: conflicts,
		Endpoint: s.endpointFault(),
		Moved:    s.mover.result, KubeProxy: s.Proxy.Health(), Sessions: s.Routes.Sessions(),
		Checked: s.host.checked, Findings: s.health.findings, Clock: s.cfg.Clock.Verdict(),
	}
	var announcing error // what keeps a speaker that takes part from announcing
	switch {
	case s.membership.leaving:
		r.Reason, r.Message = v1alpha1.ReasonStopping, "handing over"
	case s.membership.standing.Out:
		r.Reason, r.Message = r.Endpoint.Reason, r.Endpoint.Message
	case !s.Joined():
		r.Reason, r.Message = v1alpha1.ReasonJoining, joining
	case failed != nil:
		announcing = failed
		r.Reason, r.Message = v1alpha1.ReasonCannotAnnounce, failed.Error()
	default:
		r.Ready, r.Reason = true, v1alpha1.ReasonAnnouncing
		r.Gossip = kube.NewSpeakerGossip(alive, s.membership.unheard.long, s.health.keys.text)
		r.Message = kube.GossipMessage(r.Gossip)
	}
	s.health.announcing.set(s.log, announcing, "cannot announce on every interface; retrying")
	s.status.Put(r, s.cluster.SpeakerMissing())
}
