package speaker

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/go-logr/logr"
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
	"github.com/fairlead-lb/fairlead/internal/netif"
	"github.com/fairlead-lb/fairlead/internal/nodecheck"
	"github.com/fairlead-lb/fairlead/internal/routing"
	"github.com/fairlead-lb/fairlead/internal/speakerstatus"
)

// Config is the configuration of a speaker.
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

// Deps are what a speaker acts through. Tests have others in their place.
type Deps struct {
	Gossip     Gossip
	Layer2     Layer2
	Routes     Routes
	DHCP       DHCP
	Proxy      Proxy
	Interfaces Interfaces
	Kernel     Kernel
}

// NewDeps returns what a speaker on a real node acts through.
func NewDeps(cfg Config) Deps {
	gossip := members.New(members.Config{
		Node: cfg.Node, Bind: cfg.Bind, Port: cfg.Port, Keys: cfg.Keys, Term: cfg.Term,
		Generation: uint64(time.Now().UnixNano()), Failover: cfg.Failover, Log: cfg.Log.WithName("gossip"),
	})
	return Deps{
		Gossip:     gossip,
		Layer2:     layer2.New(gossip.Beating, cfg.Log.WithName("layer2")),
		Routes:     routing.New(cfg.Routing, cfg.Log),
		DHCP:       dhcpwatch.New(cfg.Log.WithName("dhcp")),
		Proxy:      kubeproxy.New(cfg.Bind),
		Interfaces: interfaces{},
		Kernel:     kernel{},
	}
}

func newStatusWriter(cfg Config) *speakerstatus.Writer {
	return speakerstatus.New(speakerstatus.Config{API: cfg.API, Node: cfg.Node, Endpoint: cfg.endpoint(), Version: cfg.Version, Log: cfg.Log})
}

// Gossip is the gossip between the speakers; members.Members documents the methods.
type Gossip interface {
	GossipRunner
	GossipMembership
	GossipState
	GossipSignals
}

// GossipRunner starts and stops the gossip, and changes its keys.
type GossipRunner interface {
	Start() error
	Stop(ctx context.Context) error
	SetKeys(keys [][]byte) error
	SetTerm(term uint64)
	Drops() map[string]uint64
}

// GossipMembership has the members.
type GossipMembership interface {
	Join(ctx context.Context, endpoints []netip.AddrPort) bool
	Alive() []string
	Revive(gone func(node string) bool)
	Duplicate() (first netip.AddrPort, duplicate bool)
	LastSign(node string) time.Time
}

// GossipState is the state that the members share.
type GossipState interface {
	View() members.View
	SetFacts(f members.Facts)
	Claim(claims map[netip.Addr]election.Claim)
	Contested() []netip.Addr
}

// GossipSignals signal changes.
type GossipSignals interface {
	Changed() <-chan struct{}
	Lapsed() <-chan struct{}
	Beating() bool
}

// Layer2 answers ARP and NDP; layer2.Announcer documents the methods.
type Layer2 interface {
	Layer2Announcer
	Layer2State
}

// Layer2Announcer sets the addresses to answer for.
type Layer2Announcer interface {
	Apply(rows []lb.L2Announcement, standby []string, interfaces []netif.Interface) ([]lb.L2Announcement, error)
	Reannounce(addrs []netip.Addr)
	SetClusterMACs(macs map[string]bool)
	RetryInterfaces()
	Close()
}

// Layer2State is what was seen on the network.
type Layer2State interface {
	Changed() <-chan struct{}
	Conflicts() []layer2.Conflict
	ClaimedByNodes() []netip.Addr
	FailedInterfaces() (map[string][]lb.Family, error)
	Counts() map[lb.Family]layer2.Counts
}

// Routes advertises routes by BGP; routing.Routes documents the methods.
type Routes interface {
	RouteAdvertiser
	RouteState
}

// RouteAdvertiser sets the routes to advertise.
type RouteAdvertiser interface {
	Run(ctx context.Context)
	Apply(wanted routing.Wanted, plan []lb.BGPRoute, version uint64, interfaces []netif.Interface) (again time.Duration)
	Readdress()
	Leave(ctx context.Context, forGood bool, why string)
}

// RouteState is the state of the BGP sessions.
type RouteState interface {
	Changed() <-chan struct{}
	PathsChanged() <-chan struct{}
	OnlyAdvertiser() bool
	Sessions() []v1alpha1.SpeakerBGPSession
	Measure() []metrics.Session
}

// DHCP observes DHCP leases; dhcpwatch.Watch documents the methods.
type DHCP interface {
	Changed() <-chan struct{}
	Follow(interfaces []netif.Interface, pools dhcpwatch.Pools) ([]lb.Lease, error)
	Close()
}

// Proxy is the node's kube-proxy; kubeproxy.Watch documents the methods.
type Proxy interface {
	Run(ctx context.Context)
	Changed() <-chan struct{}
	Health() string
	Failing() bool
}

// Interfaces are the node's network interfaces, addresses and routes.
type Interfaces interface {
	List() (list []netif.Interface, rest []netif.Address, err error)
	Routes() (netif.Routes, error)
	Watch(ctx context.Context, changed func()) error
	Has(addr netip.Addr) bool
}

// Kernel has the settings of the node's kernel.
type Kernel interface {
	Read(interfaces []string) (nodecheck.Facts, error)
	ReadSettings(f *nodecheck.Facts, interfaces []string)
}

type interfaces struct{}

func (interfaces) List() ([]netif.Interface, []netif.Address, error) { return netif.List() }
func (interfaces) Routes() (netif.Routes, error)                     { return netif.ListRoutes() }
func (interfaces) Watch(ctx context.Context, changed func()) error   { return netif.Watch(ctx, changed) }
func (interfaces) Has(addr netip.Addr) bool                          { return isLocal(addr) }

// isLocal reports whether an interface of this machine has the address.
func isLocal(a netip.Addr) bool {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

type kernel struct{}

func (kernel) Read(interfaces []string) (nodecheck.Facts, error)    { return nodecheck.Read(interfaces) }
func (kernel) ReadSettings(f *nodecheck.Facts, interfaces []string) { f.ReadSettings(interfaces) }
