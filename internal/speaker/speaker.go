// Package speaker makes one node announce what it owns: it gathers what is so,
// has plan.Make decide, and carries the plan out.
package speaker

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/clockcheck"
	"github.com/fairlead-lb/fairlead/internal/dhcpwatch"
	"github.com/fairlead-lb/fairlead/internal/election"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/kube/apiconn"
	"github.com/fairlead-lb/fairlead/internal/kubeproxy"
	"github.com/fairlead-lb/fairlead/internal/layer2"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/members"
	"github.com/fairlead-lb/fairlead/internal/metrics"
	"github.com/fairlead-lb/fairlead/internal/mirror"
	"github.com/fairlead-lb/fairlead/internal/netif"
	"github.com/fairlead-lb/fairlead/internal/nodecheck"
	"github.com/fairlead-lb/fairlead/internal/notify"
	"github.com/fairlead-lb/fairlead/internal/plan"
	"github.com/fairlead-lb/fairlead/internal/routing"
	"github.com/fairlead-lb/fairlead/internal/speakerstatus"
)

const (
	// lookAround is how often the speaker looks for others that it lost, as in a
	// partition.
	lookAround = 500 * time.Millisecond
	// seekers is how many speakers look at a time.
	seekers = 5
	// tryAgain is how often it retries what failed, such as to open an interface, and
	// looks at the kernel's settings.
	tryAgain = 1500 * time.Millisecond
	// checkEvery is how many of these there are from one look at the kernel's addresses and
	// routes to the next, while no interface or address changes.
	checkEvery = 6
	// rejoinWithin bounds the search for others after a cable was back, during
	// which the speaker owns nothing. It is longer than the second after which
	// the kernel repeats an ARP request that went into the void.
	rejoinWithin = 2 * time.Second
	// breath is the least time from one turn of the loop to the next: when a node is
	// dead, a hundred others claim what it owned, each at its own moment.
	breath = 10 * time.Millisecond
	// findEvery is how often it tries then.
	findEvery = 200 * time.Millisecond
	// handOverWithin bounds the wait for successors on shutdown. It is within the 30 s
	// that Kubernetes gives a pod to end.
	handOverWithin = 3 * time.Second
	// farewell bounds what is said to the others and the API server at the end.
	farewell = time.Second
)

// Config is what a speaker is made of.
type Config struct {
	Node    string
	Bind    netip.Addr // gossip address
	Follow  bool       // Bind is to be the Node's address for the gossip
	Family  lb.Family  // of that address, if the Node has one of it
	Port    uint16     // gossip port
	Keys    [][]byte   // of the gossip, as members.Config
	Term    uint64     // of the gossip, as members.Config
	Version string
	Class   kube.Class

	Failover members.Failover
	Routing  routing.Config
	Metrics  *metrics.Speaker
	Clock    *clockcheck.Watch // of what API answers

	Namespace string           // of the install: where the Secrets are
	API       client.WithWatch // asks the API server, not a cache
	Conn      *apiconn.Conn    // of API
	Log       logr.Logger
}

func (c Config) endpoint() netip.AddrPort { return netip.AddrPortFrom(c.Bind, c.Port) }

func newStatusWriter(cfg Config) *speakerstatus.Writer {
	return speakerstatus.New(speakerstatus.Config{API: cfg.API, Node: cfg.Node, Endpoint: cfg.endpoint(), Version: cfg.Version, Log: cfg.Log})
}

// Speaker runs one node's speaker.
type Speaker struct {
	cfg     Config
	log     logr.Logger
	cluster *mirror.Cluster
	members *members.Members
	layer2  *layer2.Announcer
	dhcp    *dhcpwatch.Watch
	status  *speakerstatus.Writer
	proxy   *kubeproxy.Watch
	routing *routing.Routes
	links   notify.Signal // interfaces changed
	timer   notify.Signal // something that only time brings is due
	joined  atomic.Bool

	// The others are searched for after a cable was back, or a lapse.
	searches  sync.WaitGroup
	searching atomic.Int32  // searches that go on
	rejoined  notify.Signal // the last of them has ended

	// Owned by the loop of Start.
	interfaces  []netif.Interface
	hostAddrs   []v1alpha1.SpeakerHostAddress // on other interfaces
	routes      netif.Routes
	home        string                 // the interface that has, or had, the address of the gossip
	severed     bool                   // it is down, or has lost that address
	fails       map[string][]lb.Family // interfaces that cannot be opened, and for what
	keys        [][]byte               // of the gossip
	keyring     keyring                // which of them are in use
	keyFault    string                 // why they are not those in the Secret
	standing    plan.Standing
	misplaced   speakerstatus.EndpointFault // the Node has an address that this machine does not have
	silences    silences
	unheard     []string // speakers that only others hear, and not for a moment
	planner     plan.Planner
	standby     []string // interfaces on which this node could announce
	unchecked   int      // calls of check since it looked at everything
	kernel      nodecheck.Facts
	checked     bool       // findings are known
	leases      []lb.Lease // of pools' addresses, by DHCP servers
	deaf        string     // why DHCP is not heard on every interface, said once
	findings    []nodecheck.Finding
	crowd       crowd
	macVersions [2]uint64 // of the MACs that layer 2 has
	ground      ground
	rival       nodecheck.Rival // another machine with this node's name
	duplicate   bool            // that machine was there first
	leaving     bool
	drained     bool
	unproxied   bool // kube-proxy does not work
	mover       mover
	take        netip.Addr               // to be taken over now, as a user wants; or none
	inForce     []lb.L2Announcement      // that are announced
	since       map[netip.Addr]time.Time // address -> when this node began to announce it
	announced   map[netip.Addr]bool      // these addresses; nobody writes to it
	on          map[netip.Addr][]string  // the interfaces on which they are; nobody writes to it
	disputed    map[netip.Addr]bool      // addresses with a conflict
	left        []netip.Addr             // addresses that are left to foreign hosts, sorted
	yielded     map[netip.Addr]bool      // that another node announces, while this one is severed
	failure     string                   // the last error of layer2, said once
}

// New returns an Speaker that does nothing until Start.
func New(cfg Config) *Speaker {
	m := members.New(members.Config{
		Node: cfg.Node, Bind: cfg.Bind, Port: cfg.Port, Keys: cfg.Keys, Term: cfg.Term,
		Generation: uint64(time.Now().UnixNano()), Failover: cfg.Failover, Log: cfg.Log.WithName("gossip"),
	})
	return &Speaker{
		cfg:      cfg,
		log:      cfg.Log,
		cluster:  mirror.New(cfg.Class, cfg.Node, cfg.Family),
		members:  m,
		layer2:   layer2.New(m.Beating, cfg.Log.WithName("layer2")),
		dhcp:     dhcpwatch.New(cfg.Log.WithName("dhcp")),
		status:   newStatusWriter(cfg),
		proxy:    kubeproxy.New(cfg.Bind),
		routing:  routing.New(cfg.Routing, cfg.Log),
		mover:    mover{now: time.Now},
		silences: silences{now: time.Now, since: map[string]time.Time{}},
		keys:     cfg.Keys,
		keyring:  keyring{now: time.Now, target: cfg.Keys},
		links:    notify.New(),
		timer:    notify.New(),
		rejoined: notify.New(),
		since:    map[netip.Addr]time.Time{},
		disputed: map[netip.Addr]bool{},

		unchecked: checkEvery,
	}
}

// +kubebuilder:rbac:groups="",resources=nodes,verbs=get
// +kubebuilder:rbac:groups=fairlead.dev,resources=speakers,verbs=get;list

// Start runs the speaker until ctx ends; then it hands over what it owns.
func (a *Speaker) Start(ctx context.Context) error {
	a.cfg.Metrics.Sessions(a.routing.Measure)
	a.cfg.Metrics.Layer2(a.queries)
	a.readRoutes(true)
	a.cfg.Metrics.Gossip(a.members.Drops)
	a.look(ctx) // so that the others hear from the beginning that it has not joined yet
	if err := a.members.Start(); err != nil {
		return err
	}
	defer a.sayGoodbye(context.WithoutCancel(ctx))
	// What is needed to hand over must outlive ctx.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, background := errgroup.WithContext(background)
	g.Go(func() error { a.cluster.Follow(background, a.cfg.API, a.cfg.Conn, a.cfg.Namespace); return nil })
	g.Go(func() error { return netif.Watch(background, a.links.Poke) })
	g.Go(func() error { a.status.Run(background); return nil })
	g.Go(func() error { a.proxy.Run(background); return nil })
	g.Go(func() error { a.routing.Run(background); return nil })
	g.Go(func() error { a.lookForLost(background); return nil })
	err := a.work(ctx, background)
	stop()
	a.searches.Wait()
	return errors.Join(err, g.Wait())
}

// work joins the others, announces until ctx ends, and hands over.
func (a *Speaker) work(ctx, background context.Context) error {
	if err := a.join(ctx); err != nil {
		return err
	}
	err := a.loop(ctx, background)
	forGood, why := a.goesForGood()
	var sessions sync.WaitGroup
	sessions.Go(func() { a.routing.Leave(context.WithoutCancel(background), forGood, why) })
	a.handOver(context.WithoutCancel(background))
	sessions.Wait() // before paths are no longer watched, which would look like a fault to routers
	return err
}

// goesForGood reports whether what this node announces is to go with the speaker,
// and says so for the routers' logs: not when another speaker is about to follow on
// the same node, nor when no other node announces it.
func (a *Speaker) goesForGood() (bool, string) {
	switch {
	case a.cluster.NodeLeaving():
		return true, a.cfg.Node + " is leaving the cluster"
	case (a.drained || a.cluster.NodeDeprioritized()) && !a.routing.OnlyAdvertiser():
		return true, a.cfg.Node + " is drained"
	default:
		return false, ""
	}
}

// Joined reports whether the speaker takes part; before that it owns nothing.
func (a *Speaker) Joined() bool { return a.joined.Load() }

// join reads what there is, makes this speaker known, and finds the others, before
// it may own anything (invariant L6). Of two that start together at least the later one to
// make itself known finds the other.
func (a *Speaker) join(ctx context.Context) error {
	select {
	case <-a.cluster.Listed():
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := a.claimNodeName(ctx); err != nil {
		return err
	}
	me := speakerstatus.Report{Interfaces: a.interfaces, HostAddresses: a.hostAddrs, Keys: a.keys, Reason: v1alpha1.ReasonJoining, Message: "looking for the other speakers"}
	var others []netip.AddrPort
	for {
		err := a.status.Write(ctx, me)
		if err == nil {
			others, err = a.known(ctx)
		}
		if err == nil {
			break
		}
		a.log.Error(err, "cannot make this speaker known and find the others; trying again")
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	for a.members.Join(ctx, others); a.isDuplicate(); a.members.Join(ctx, others) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(tryAgain):
		}
	}
	a.assess(ctx)
	a.hasJoined()
	return nil
}

// hasJoined records that this node may own addresses, and tells the others: a
// node that may not is not elected.
func (a *Speaker) hasJoined() {
	if a.duplicate {
		return
	}
	a.joined.Store(!a.standing.Out)
	others := a.cluster.Others()
	a.members.Revive(func(node string) bool { _, there := others[node]; return !there })
	a.tellFacts()
}

// tellFacts tells the others about this node.
func (a *Speaker) tellFacts() {
	a.members.SetFacts(members.Facts{
		Interfaces: a.usable(), Joined: a.joined.Load(), Leaving: a.leaving, Drained: a.drained, Unproxied: a.unproxied, Disputed: a.left,
	})
}

// usable is the interfaces with what they cannot be used for.
func (a *Speaker) usable() []netif.Interface {
	out := slices.Clone(a.interfaces)
	for i := range out {
		out[i].Fails = a.fails[out[i].Name]
	}
	return out
}

// known returns where the API server says that the other speakers are.
func (a *Speaker) known(ctx context.Context) ([]netip.AddrPort, error) {
	var list v1alpha1.SpeakerList
	if err := a.cfg.API.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list Speakers: %w", err)
	}
	var out []netip.AddrPort
	for _, s := range list.Items {
		if e, err := netip.ParseAddrPort(s.Status.GossipEndpoint); err == nil && s.Name != a.cfg.Node && e != a.cfg.endpoint() {
			out = append(out, e)
		}
	}
	return out, nil
}

// loop brings what is announced in line with what is so, whenever that changes.
func (a *Speaker) loop(ctx, background context.Context) error {
	tick := time.NewTicker(tryAgain)
	defer tick.Stop()
	for {
		began := time.Now()
		a.yieldNodeName(background)
		a.assess(background)
		if own := a.cluster.GossipAddress(); a.hasMoved(own) {
			return fmt.Errorf("%w: %s instead of %s", ErrAddressChanged, own, a.cfg.Bind)
		}
		a.act()
		select {
		case <-ctx.Done():
			return nil
		case <-background.Done():
			return context.Cause(background)
		case <-a.cluster.Changed():
		case <-a.timer:
		case <-a.members.Changed():
		case <-a.layer2.Changed():
		case <-a.dhcp.Changed():
		case <-a.proxy.Changed():
		case <-a.routing.Changed():
		case <-a.routing.PathsChanged():
		case <-a.cfg.Clock.Changed():
		case <-a.links:
			a.readRoutes(true)
			a.look(background)
			a.layer2.RetryInterfaces()
			a.routing.Readdress()
			a.unchecked = checkEvery
		case <-a.members.Lapsed():
			a.cfg.Metrics.Lapses.Inc()
			a.rejoin(background)
		case <-a.rejoined:
			if a.searching.Load() == 0 {
				a.hasJoined()
			}
		case <-tick.C:
			a.readRoutes(false)
			a.look(background)
			a.check()
		}
		if rest := breath - time.Since(began); rest > 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(rest):
			}
		}
	}
}

// look reads the interfaces and tells the others.
func (a *Speaker) look(ctx context.Context) {
	interfaces, rest, err := netif.List()
	if err != nil {
		a.log.Error(err, "cannot read the interfaces; going on with what is known of them")
		return
	}
	a.routes.Apply(interfaces)
	if i := slices.IndexFunc(interfaces, func(i netif.Interface) bool { return i.Holds(a.cfg.Bind) }); i >= 0 {
		a.home = interfaces[i].Name
	}
	// One without an address is in nobody's subnet, and a node may have hundreds:
	// the host's ends of its pods' interfaces, which may also have an address each. They count
	// if they are named. Network managers may remove addresses when the carrier is lost, and
	// add them again one by one.
	named := a.cluster.NamedInterfaces()
	interfaces = slices.DeleteFunc(interfaces, func(i netif.Interface) bool {
		addressed := len(i.Prefixes)+len(i.OnLink) > 0
		counts := slices.Contains(named, i.Name) || addressed && (!i.Internal || i.MatchesAny(named))
		if !counts {
			rest = append(rest, addressesOn(i)...)
			return true
		}
		return i.Name == a.home && !i.Holds(a.cfg.Bind)
	})
	a.hostAddrs = hostAddresses(rest)
	if slices.EqualFunc(interfaces, a.interfaces, netif.Interface.Equal) {
		return
	}
	wasSevered := a.severed
	a.interfaces = interfaces
	a.severed = a.home != "" && !slices.ContainsFunc(interfaces, func(i netif.Interface) bool { return i.Name == a.home && i.Up })
	if wasSevered && !a.severed {
		a.rejoin(ctx)
	} else {
		a.tellFacts()
	}
}

// readRoutes reads the routing table. Where it is long, as with all routes of the Internet, that
// is done as seldom as everything else is looked at.
func (a *Speaker) readRoutes(changed bool) {
	const long = 1000
	if !changed && a.routes.Count > long && a.unchecked+1 < checkEvery {
		return
	}
	routes, err := netif.ListRoutes()
	if err != nil {
		a.log.Error(err, "reading the routing table failed; continuing with what is known of it")
		return
	}
	a.routes = routes
}

func addressesOn(i netif.Interface) (out []netif.Address) {
	for _, p := range i.Prefixes {
		out = append(out, netif.Address{Addr: p.Addr(), Interface: i.Name})
	}
	return out
}

// hostAddresses is what the Speaker says of addresses on interfaces that it does not list, each
// once: a network plugin may give many interfaces the same.
func hostAddresses(rest []netif.Address) (out []v1alpha1.SpeakerHostAddress) {
	slices.SortFunc(rest, func(x, y netif.Address) int { return cmp.Or(x.Compare(y.Addr), cmp.Compare(x.Interface, y.Interface)) })
	for _, a := range slices.CompactFunc(rest, func(x, y netif.Address) bool { return x.Addr == y.Addr }) {
		if len(out) < v1alpha1.MaxSpeakerHostAddresses {
			out = append(out, v1alpha1.SpeakerHostAddress{Address: a.String(), Interface: a.Interface})
		}
	}
	return out
}

// check looks for what defeats announcing in the node's kernel: at its settings, and
// at every few calls at everything.
func (a *Speaker) check() {
	if a.unchecked++; a.unchecked >= checkEvery {
		facts, err := nodecheck.Read(a.standby)
		if err != nil {
			a.log.Error(err, "cannot look for what defeats announcing; going on with what was found before")
			return
		}
		a.unchecked, a.checked, a.kernel = 0, true, facts
	} else {
		a.kernel.ReadSettings(a.standby)
	}
	a.judge()
}

// hear takes in which addresses of pools DHCP servers give, where this node could
// announce them.
func (a *Speaker) hear() {
	could := slices.DeleteFunc(slices.Clone(a.interfaces), func(i netif.Interface) bool { return !i.Up || !slices.Contains(a.standby, i.Name) })
	leases, err := a.dhcp.Follow(could, a.cluster.PoolSet())
	a.complain(&a.deaf, err, "cannot hear DHCP on every interface; trying again")
	if !slices.Equal(leases, a.leases) {
		a.leases = leases
		a.judge()
	}
}

// judge finds what defeats announcing, by the last look at the kernel and by what was
// heard.
func (a *Speaker) judge() {
	facts := a.kernel
	facts.Leases, facts.Rival, facts.Own = a.leases, a.rival, slices.Concat(a.cluster.NodeAddresses(), []netip.Addr{a.cfg.Bind})
	a.findings = nodecheck.Check(facts, &a.planner, a.standby)
}

// rejoin looks for the others, when a cable is back or this process has stood
// still for a while: they may have taken what this node owned, and it has not
// heard of it. It owns nothing until it has found them, or that there are none.
func (a *Speaker) rejoin(ctx context.Context) {
	a.joined.Store(false)
	a.tellFacts()
	a.searching.Add(1)
	a.searches.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, rejoinWithin)
		defer cancel()
		a.find(ctx, slices.Collect(maps.Values(a.cluster.Others())))
		if a.searching.Add(-1) == 0 {
			a.rejoined.Poke()
		}
	})
}

// find joins one of the others, in several attempts until ctx ends: a port that
// just came up may swallow the first packets, and TCP repeats them only after a
// second.
func (a *Speaker) find(ctx context.Context, others []netip.AddrPort) {
	for len(others) > 0 && ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, findEvery)
		found := a.members.Join(attempt, others)
		if !found {
			<-attempt.Done()
		}
		cancel()
		if found {
			return
		}
	}
}

// lookForLost looks for speakers that are known and not among the members, until
// ctx ends: gossip alone does not find together again after a long partition. Those
// who are in touch take turns, so that a few look at a time, however many they are.
func (a *Speaker) lookForLost(ctx context.Context) {
	tick := time.NewTicker(lookAround)
	defer tick.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		alive := a.members.Alive()
		if me, _ := slices.BinarySearch(alive, a.cfg.Node); (turn+me)%(1+len(alive)/seekers) != 0 {
			continue
		}
		var lost []netip.AddrPort
		for node, endpoint := range a.cluster.Others() {
			if _, found := slices.BinarySearch(alive, node); !found {
				lost = append(lost, endpoint)
			}
		}
		// One that is away would be waited for, and the others with it.
		attempt, cancel := context.WithTimeout(ctx, lookAround)
		a.members.Join(attempt, lost)
		cancel()
	}
}

// rekey has the gossip use the keys and the term that are in the Secret now. While they are not
// as they should be, or the Secret is gone, those before stay in use.
func (a *Speaker) rekey() {
	data, annotation := a.cluster.GossipSecret()
	keys, term, err := a.keyring.target, a.cfg.Term, error(nil)
	if data != nil {
		var keyErr, termErr error
		if keys, keyErr = kube.GossipKeys(a.cfg.Namespace, data); keyErr != nil {
			keys = a.keyring.target
		}
		if term, termErr = kube.GossipTerm(a.cfg.Namespace, annotation); termErr != nil {
			term = a.cfg.Term
		}
		err = errors.Join(keyErr, termErr)
	}
	use, again := a.keyring.next(keys)
	if !slices.EqualFunc(use, a.keys, bytes.Equal) {
		err = errors.Join(err, a.members.SetKeys(use))
		a.keys = use
		if again > 0 {
			time.AfterFunc(again, a.timer.Poke)
		}
	}
	if term != a.cfg.Term {
		a.log.Info("the gossip has another term", "before", a.cfg.Term, "now", term)
		a.members.SetTerm(term)
		a.cfg.Term = term
	}
	a.complain(&a.keyFault, err, "cannot use what is in the gossip Secret; the keys and the term before stay in use")
}

// complain logs a fault that is met again and again, or nil, once as long as it is the
// same as the last.
func (a *Speaker) complain(last *string, err error, words string) {
	now := ""
	if err != nil {
		now = err.Error()
	}
	if now != "" && now != *last {
		a.log.Error(err, words)
	}
	*last = now
}

// act gathers, decides and acts, once.
func (a *Speaker) act() plan.Plan {
	a.rekey()
	orders := a.cluster.Orders()
	if failing := a.proxy.Failing(); orders.Drain != a.drained || failing != a.unproxied {
		a.drained, a.unproxied = orders.Drain, failing
		a.tellFacts()
	}
	view := a.members.View()
	a.unheard = a.silences.note(view.Unheard)
	speakers, edition := a.crowd.of(view)
	s := plan.Snapshot{
		Node: a.cfg.Node, Joined: a.joined.Load(), Claims: view.Claims, Moved: view.Moved, Fresh: view.Fresh, Speakers: speakers,
		Known: a.cluster.SpeakerCount(), CutOff: view.CutOff, Severed: a.severed, Disputed: a.inDispute(view), AnnouncedOn: a.on, Take: a.take,
	}
	if a.members.Beating() { // else others may have it: what they claimed is not to be claimed back
		s.Announced = a.announced
	}
	if rival := rivalOf(view, a.cfg); rival != a.rival {
		a.rival = rival
		a.judge()
	}
	a.setClusterMACs(view)
	s.Version = a.ground.stand(a.cluster.Fill(&s), edition)
	plan := a.planner.Make(s)
	a.standby = plan.Standby
	if len(plan.Claims) > 0 {
		a.members.Claim(plan.Claims)
	}
	inForce, err := a.layer2.Apply(a.withoutYielded(plan.Announcements), plan.Standby, a.interfaces)
	if why := a.noteFailures(); err == nil {
		err = why
	}
	a.countTakeOvers(&s, plan.Claims)
	a.layer2.Reannounce(a.members.Contested())
	a.hear()
	// BGP needs no gossip: one that takes no part in that still serves its routers.
	if (s.Joined || a.standing.Out) && !a.leaving {
		a.obey(orders, &s, plan)
		// While the others are looked for, they are not known to announce, so what
		// routers were told stays as it is.
		if again := a.routing.Apply(routing.Wanted(a.cluster.Routers()), plan.Routes, s.Version, a.interfaces); again > 0 {
			time.AfterFunc(again, a.timer.Poke)
		}
	}
	a.tell(inForce, plan.Users, len(view.Alive), err)
	return plan
}

// inDispute returns the addresses that speakers leave to foreign hosts, as their Speaker
// objects have it, and as they tell by gossip while the API server is away.
func (a *Speaker) inDispute(v members.View) map[netip.Addr]bool {
	out := a.cluster.DisputedAddresses()
	for _, f := range v.Facts {
		for _, addr := range f.Disputed {
			out[addr] = true
		}
	}
	return out
}

// withoutYielded returns the rows without the addresses that another node was heard to
// announce while the interface of the gossip is down. This node cannot hear that they are
// the other node's now, and may have another interface in their subnet.
func (a *Speaker) withoutYielded(rows []lb.L2Announcement) []lb.L2Announcement {
	if !a.severed {
		a.yielded = nil
		return rows
	}
	for _, addr := range a.layer2.ClaimedByNodes() {
		if a.yielded == nil {
			a.yielded = map[netip.Addr]bool{}
		}
		a.yielded[addr] = true
	}
	if len(a.yielded) == 0 {
		return rows
	}
	return slices.DeleteFunc(slices.Clone(rows), func(r lb.L2Announcement) bool { return a.yielded[r.Addr] })
}

// shareDisputes tells the others which addresses this node leaves to foreign hosts.
func (a *Speaker) shareDisputes(conflicts []layer2.Conflict) {
	var left []netip.Addr
	for _, c := range conflicts { // sorted by address
		if !c.Announced && len(left) < members.MaxDisputed && !slices.Contains(left, c.Addr) {
			left = append(left, c.Addr)
		}
	}
	if !slices.Equal(left, a.left) {
		a.left = left
		a.tellFacts()
	}
}

// noteFailures tells the others which interfaces cannot be opened: they take over what
// was to be announced there. It returns why.
func (a *Speaker) noteFailures() error {
	fails, why := a.layer2.FailedInterfaces()
	if !maps.EqualFunc(fails, a.fails, slices.Equal) {
		a.fails = fails
		a.tellFacts()
	}
	return why
}

// setClusterMACs gives layer 2 the nodes' hardware addresses if they have changed.
func (a *Speaker) setClusterMACs(v members.View) {
	versions := [...]uint64{v.FactsVersion, a.cluster.MACsVersion()}
	if versions == a.macVersions {
		return
	}
	a.macVersions = versions
	macs := map[string]bool{}
	for _, mac := range a.cluster.NodeMACs() {
		macs[mac] = true
	}
	others := a.cluster.Others()
	for node, f := range v.Facts { // also of nodes that are not alive, but not of nodes that left the cluster
		if _, there := others[node]; !there && node != a.cfg.Node {
			continue
		}
		for _, i := range f.Interfaces {
			macs[i.MAC] = true
		}
	}
	a.layer2.SetClusterMACs(macs)
}

// countTakeOvers counts the addresses that were taken over just now, by what is with
// the node that had them.
func (a *Speaker) countTakeOvers(s *plan.Snapshot, claims map[netip.Addr]election.Claim) {
	for addr := range claims {
		from := s.Claims[addr].Owner
		if from == "" {
			continue
		}
		reason := takenFrom(s, addr, from)
		a.cfg.Metrics.Takeovers.WithLabelValues(reason).Inc()
		if last := a.members.LastSign(from); reason == metrics.TakenFromDead && !last.IsZero() {
			a.cfg.Metrics.Failovers.Observe(time.Since(last).Seconds())
		}
	}
}

// takenFrom says what is with the node that an address is taken over from.
func takenFrom(s *plan.Snapshot, addr netip.Addr, from string) string {
	owner, alive := s.Speakers[from]
	switch {
	case addr == s.Take:
		return metrics.TakenByRequest
	case !alive:
		return metrics.TakenFromDead
	case owner.Leaving:
		return metrics.TakenFromLeaving
	default:
		return metrics.TakenFromIneligible
	}
}

// avoid returns why a speaker's node is better left out, as it says itself.
func avoid(f members.Facts) (out []lb.Reason) {
	if f.Drained {
		out = append(out, lb.ReasonNodeDrained)
	}
	if f.Unproxied {
		out = append(out, lb.ReasonProxyUnhealthy)
	}
	return out
}

// obey begins the next move that a user wants.
func (a *Speaker) obey(orders kube.SpeakerOrders, s *plan.Snapshot, p plan.Plan) {
	var again time.Duration
	if a.take, again = a.mover.next(orders, s, p); again > 0 {
		time.AfterFunc(again, a.timer.Poke)
	}
	if a.take.IsValid() {
		a.log.Info("taking over, as was asked for", "address", a.take.String())
		a.timer.Poke()
	}
}

// crowd is the speakers that are alive. It is looked at anew when they are others, or have
// told something else.
type crowd struct {
	facts    uint64
	alive    []string
	late     map[string]bool
	speakers map[string]plan.Speaker // by node
	edition  uint64                  // of these: another one with each change
}

// of returns them by node, and which edition that is. Nobody may write to it.
func (c *crowd) of(v members.View) (map[string]plan.Speaker, uint64) {
	if c.facts == v.FactsVersion && slices.Equal(c.alive, v.Alive) && maps.Equal(c.late, v.Late) {
		return c.speakers, c.edition
	}
	speakers := make(map[string]plan.Speaker, len(v.Alive))
	for _, node := range v.Alive {
		if f, ok := v.Facts[node]; ok {
			speakers[node] = plan.Speaker{
				Interfaces: f.Interfaces, Joined: f.Joined, Late: v.Late[node], Leaving: f.Leaving, Avoid: avoid(f),
			}
		}
	}
	c.facts, c.alive, c.late = v.FactsVersion, v.Alive, v.Late
	if !maps.EqualFunc(c.speakers, speakers, plan.Speaker.Equal) {
		c.speakers, c.edition = speakers, c.edition+1
	}
	return c.speakers, c.edition
}

// ground is what a plan stands on and that seldom changes.
type ground struct {
	version        uint64 // another one with each change
	cluster, crowd uint64
}

// stand returns the version of what the plan stands on now.
func (g *ground) stand(cluster, crowd uint64) uint64 {
	if g.version == 0 || g.cluster != cluster || g.crowd != crowd {
		*g = ground{version: g.version + 1, cluster: cluster, crowd: crowd}
	}
	return g.version
}

// tell has the Speaker object say what this node announces, and what failed.
func (a *Speaker) tell(inForce []lb.L2Announcement, users map[netip.Addr][]lb.ServiceKey, alive int, failed error) {
	a.note(inForce)
	if a.duplicate {
		return // the Speaker object is the first machine's
	}
	conflicts := a.layer2.Conflicts()
	a.shareDisputes(conflicts)
	a.count(alive, len(a.since), conflicts)
	r := speakerstatus.Report{
		Interfaces: a.usable(), HostAddresses: a.hostAddrs, Keys: a.keys, Owned: inForce, Users: users, Since: a.since, Conflicts: conflicts,
		Ready: a.joined.Load(), Reason: v1alpha1.ReasonAnnouncing,
		Endpoint: a.endpointFault(),
		Moved:    a.mover.result, KubeProxy: a.proxy.Health(), Sessions: a.routing.Sessions(),
		Checked: a.checked, Findings: a.findings, Clock: a.cfg.Clock.Verdict(),
	}
	var failure error
	switch {
	case a.leaving:
		r.Ready, r.Reason, r.Message = false, v1alpha1.ReasonStopping, "handing over"
	case a.standing.Out:
		r.Ready, r.Reason, r.Message = false, r.Endpoint.Reason, r.Endpoint.Message
	case !r.Ready:
		r.Reason, r.Message = v1alpha1.ReasonJoining, "looking for the other speakers"
	case failed != nil:
		failure = failed
		r.Ready, r.Reason, r.Message = false, v1alpha1.ReasonCannotAnnounce, failed.Error()
	default:
		r.Gossip = kube.NewSpeakerGossip(alive, a.unheard, a.keyFault)
		r.Message = kube.GossipMessage(r.Gossip)
	}
	a.complain(&a.failure, failure, "cannot announce on every interface; trying again")
	a.status.Put(r, a.cluster.SpeakerMissing())
}

// note takes in what is announced now. Mostly it is what was.
func (a *Speaker) note(inForce []lb.L2Announcement) {
	if sameSlice(inForce, a.inForce) {
		return
	}
	since, announced := make(map[netip.Addr]time.Time, len(inForce)), make(map[netip.Addr]bool, len(inForce))
	on := make(map[netip.Addr][]string, len(inForce))
	for _, n := range inForce {
		at, ok := a.since[n.Addr]
		if !ok {
			at = time.Now()
			a.log.Info("announcing", "address", n.Addr.String(), "interfaces", n.Interfaces)
		}
		since[n.Addr], announced[n.Addr], on[n.Addr] = at, true, n.Interfaces
	}
	for addr := range a.since {
		if !announced[addr] {
			a.log.Info("no longer announcing", "address", addr.String())
		}
	}
	a.inForce, a.since, a.announced, a.on = inForce, since, announced, on
}

// sameSlice reports whether the two are one slice, and not only equal.
func sameSlice[T any](x, y []T) bool { return len(x) == len(y) && (len(x) == 0 || &x[0] == &y[0]) }

// queries returns the ARP and NDP queries by outcome. It is safe for concurrent use.
func (a *Speaker) queries() (out []metrics.Queries) {
	for f, c := range a.layer2.Counts() {
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

// count says in metrics how many speakers, addresses and conflicts there are.
func (a *Speaker) count(alive, addresses int, conflicts []layer2.Conflict) {
	disputed := map[netip.Addr]bool{}
	for _, c := range conflicts {
		if disputed[c.Addr] = true; !a.disputed[c.Addr] {
			a.cfg.Metrics.Disputes.Inc()
			a.disputed[c.Addr] = true
		}
	}
	a.disputed = disputed
	a.cfg.Metrics.Members.Set(float64(alive))
	a.cfg.Metrics.Addresses.Set(float64(addresses))
	a.cfg.Metrics.Conflicts.Set(float64(len(disputed)))
	a.cfg.Metrics.ClockOffset.Set(a.cfg.Clock.Verdict().Ahead.Seconds())
}

// handOver hands over what this node announces, make before break: the others
// elect a successor for each address, and this node stops as it hears the
// successor's claim. What nobody takes it announces to the end.
func (a *Speaker) handOver(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, handOverWithin)
	defer cancel()
	a.leaving = true
	a.tellFacts()
	for a.mayHandOver(a.act()) && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-a.members.Changed():
		}
	}
}

// sayGoodbye stops answering, and tells the others and the API server, at the same time:
// where all leave, there is nobody who hears the last one.
func (a *Speaker) sayGoodbye(ctx context.Context) {
	a.layer2.Close()
	a.dhcp.Close()
	ctx, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	var told sync.WaitGroup
	defer told.Wait()
	told.Go(func() {
		if err := a.members.Stop(ctx); err != nil {
			a.log.Error(err, "cannot leave the gossip")
		}
	})
	if a.duplicate {
		return
	}
	goodbye := speakerstatus.Report{Interfaces: a.interfaces, HostAddresses: a.hostAddrs, Reason: v1alpha1.ReasonStopping, Message: "the speaker has stopped"}
	if err := a.status.Write(ctx, goodbye); err != nil {
		a.log.Error(err, "cannot write the Speaker's last status")
	}
}

// mayHandOver reports whether another node can take something of what this one
// still announces.
func (a *Speaker) mayHandOver(p plan.Plan) bool {
	return slices.ContainsFunc(p.Outcomes, func(o plan.Outcome) bool {
		return o.Reason == lb.ReasonAnnounced && slices.ContainsFunc(o.Avoided, func(r plan.Rejection) bool {
			return r.Node == a.cfg.Node // avoided only while there is a better one
		})
	})
}
