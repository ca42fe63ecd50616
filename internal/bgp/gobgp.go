package bgp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/server"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairlead/fairlead/internal/lb"
)

// What GoBGP must be told, and no router ever hears: the line puts the true
// router ID into OPEN messages, and each neighbour has its own local AS.
const (
	innerASN      = 23456 // AS_TRANS (RFC 6793), which no router has
	innerRouterID = "127.0.0.1"
)

// restartTime is how long routers are asked to keep the routes of a speaker that
// restarts (RFC 4724, 3). A rolling upgrade takes seconds; pulling an image on a
// slow line up to a minute.
const restartTime = 120 * time.Second

// speaker is a GoBGP server that speaks to one router at a time. One per router,
// because a server has one table, and what is announced differs by peer.
type speaker struct {
	server *server.BgpServer
	listen netip.AddrPort // on loopback: the line's other end
	gate   *gate
	log    *switchedLog

	mu sync.Mutex // guards the fields below
	// current is the neighbour that events are for: events about one that was
	// deleted still come in.
	current netip.Addr
	onState func(api.PeerState_SessionState)
}

// servers are all GoBGP servers of the process. BgpServer.Serve never returns,
// so a server that is no longer needed waits here for its next router.
var servers struct {
	mu   sync.Mutex // guards the fields below, and starting
	all  []*speaker
	free []*speaker
}

// acquireSpeaker returns a speaker with an empty table.
func acquireSpeaker(l logr.Logger) (*speaker, error) {
	servers.mu.Lock()
	defer servers.mu.Unlock()
	if n := len(servers.free); n > 0 {
		s := servers.free[n-1]
		servers.free = servers.free[:n-1]
		s.log.to(l)
		return s, nil
	}
	s, err := startSpeaker(l)
	if err != nil {
		return nil, fmt.Errorf("start GoBGP: %w", err)
	}
	servers.all = append(servers.all, s)
	return s, nil
}

// release empties the speaker's table and keeps it for another router.
func (s *speaker) release() {
	_ = s.server.DeletePath(context.Background(), &api.DeletePathRequest{TableType: api.TableType_GLOBAL})
	s.log.to(logr.Discard())
	servers.mu.Lock()
	defer servers.mu.Unlock()
	servers.free = append(servers.free, s)
}

func startSpeaker(l logr.Logger) (*speaker, error) {
	// StartBgp writes to variables of GoBGP's packages that running servers read.
	for _, other := range servers.all {
		defer other.gate.park(other.server)()
	}
	s := &speaker{gate: &gate{parked: make(chan chan struct{})}, log: &switchedLog{}}
	s.log.to(l)
	s.server = server.NewBgpServer(server.LoggerOption(s.log), server.TimingHookOption(s.gate))
	go s.server.Serve()
	// GoBGP takes 0 for port 179 and nothing else for "any that is free".
	const attempts = 16
	var err error
	for range attempts {
		if s.listen, err = freePort(); err != nil {
			return nil, err
		}
		err = s.server.StartBgp(context.Background(), &api.StartBgpRequest{Global: &api.Global{
			Asn: innerASN, RouterId: innerRouterID,
			ListenPort: int32(s.listen.Port()), ListenAddresses: []string{s.listen.Addr().String()},
			Families: []uint32{0, 1}, // GoBGP's numbers for IPv4 and IPv6 unicast; by default it makes twenty tables
		}})
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return s, s.server.WatchEvent(context.Background(), &api.WatchEventRequest{Peer: &api.WatchEventRequest_Peer{}}, s.event)
}

func freePort() (netip.AddrPort, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort(), nil
}

// event passes on the state of the current neighbour.
func (s *speaker) event(r *api.WatchEventResponse) {
	p := r.GetPeer().GetPeer()
	if p == nil || r.GetPeer().GetType() != api.WatchEventResponse_PeerEvent_STATE {
		return
	}
	addr, err := netip.ParseAddr(p.GetState().GetNeighborAddress())
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.onState != nil && addr == s.current {
		s.onState(p.GetState().GetSessionState())
	}
}

// connect makes a neighbour of GoBGP's for one connection with the router, and
// returns our end of GoBGP's connection. A neighbour lives as long as
// its connection: GoBGP keeps one that lost its own out for 5 s. onState hears
// of its states and must not call the speaker.
func (s *speaker) connect(ctx context.Context, p *lb.BGPPeer, onState func(api.PeerState_SessionState)) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// An address from 127/8 that nobody can guess: other processes of the node
	// can connect too, and GoBGP talks only to its neighbour's address.
	n := rand.Uint32() //nolint:gosec // math/rand/v2 is seeded by the system
	addr := netip.AddrFrom4([4]byte{127, byte(n>>16) | 1, byte(n >> 8), byte(n) | 1})
	ready := make(chan struct{})
	var once sync.Once
	s.mu.Lock()
	s.current = addr
	s.onState = func(state api.PeerState_SessionState) {
		if state == api.PeerState_ACTIVE {
			once.Do(func() { close(ready) })
		}
		onState(state)
	}
	s.mu.Unlock()
	if err := s.server.AddPeer(ctx, &api.AddPeerRequest{Peer: innerPeer(p, addr)}); err != nil {
		return nil, fmt.Errorf("GoBGP: %w", err)
	}
	select {
	case <-ready: // before that, GoBGP closes what it accepts
	case <-ctx.Done():
		s.disconnect()
		return nil, fmt.Errorf("GoBGP: %w", ctx.Err())
	}
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))}
	c, err := d.DialContext(ctx, "tcp4", s.listen.String())
	if err != nil {
		s.disconnect()
		return nil, fmt.Errorf("GoBGP: %w", err)
	}
	return c, nil
}

// disconnect ends the current neighbour.
func (s *speaker) disconnect() {
	s.mu.Lock()
	addr := s.current
	s.current, s.onState = netip.Addr{}, nil
	s.mu.Unlock()
	_ = s.server.DeletePeer(context.Background(), &api.DeletePeerRequest{Address: addr.String()})
}

// innerPeer is what GoBGP is told about a router.
func innerPeer(p *lb.BGPPeer, addr netip.Addr) *api.Peer {
	hold := innerHold
	if p.HoldTime != 0 {
		hold = p.HoldTime
	}
	peer := &api.Peer{
		Conf:      &api.PeerConf{NeighborAddress: addr.String(), PeerAsn: p.PeerASN, LocalAsn: p.ShownASN()},
		Transport: &api.Transport{PassiveMode: true},
		Timers: &api.Timers{Config: &api.TimersConfig{
			HoldTime: uint64(hold / time.Second), KeepaliveInterval: uint64(p.KeepaliveTime / time.Second),
		}},
	}
	if p.Dynamic == lb.DynamicInternal {
		peer.Conf.PeerAsn = p.ShownASN()
	}
	if p.GracefulRestart {
		// The line says in OPEN whether we restarted. GoBGP must not know: it would
		// wait for the router's routes before it sent ours.
		peer.GracefulRestart = &api.GracefulRestart{
			Enabled: true, RestartTime: uint32(restartTime / time.Second), NotificationEnabled: true,
		}
	}
	for _, afi := range []api.Family_Afi{api.Family_AFI_IP, api.Family_AFI_IP6} {
		peer.AfiSafis = append(peer.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: &api.Family{Afi: afi, Safi: api.Family_SAFI_UNICAST}, Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: p.GracefulRestart}},
		})
	}
	return peer
}

func family(p netip.Prefix) *api.Family {
	if p.Addr().Is4() {
		return &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
	}
	return &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}
}

func nlri(p netip.Prefix) (*anypb.Any, error) {
	return anypb.New(&api.IPAddressPrefix{Prefix: p.Addr().String(), PrefixLen: uint32(p.Bits())})
}

// announce puts a route into the table, or replaces it there: GoBGP sends one
// UPDATE, without a withdrawal.
func (s *speaker) announce(p netip.Prefix, attrs []*anypb.Any) error {
	n, err := nlri(p)
	if err == nil {
		_, err = s.server.AddPath(context.Background(), &api.AddPathRequest{
			TableType: api.TableType_GLOBAL, Path: &api.Path{Nlri: n, Family: family(p), Pattrs: attrs},
		})
	}
	if err != nil {
		return fmt.Errorf("announce %s: GoBGP: %w", p, err)
	}
	return nil
}

// withdraw takes a route out of the table.
func (s *speaker) withdraw(p netip.Prefix) error {
	n, err := nlri(p)
	if err == nil {
		err = s.server.DeletePath(context.Background(), &api.DeletePathRequest{
			TableType: api.TableType_GLOBAL, Path: &api.Path{Nlri: n, Family: family(p), IsWithdraw: true},
		})
	}
	if err != nil {
		return fmt.Errorf("withdraw %s: GoBGP: %w", p, err)
	}
	return nil
}

// gate holds a server's loop between two of its steps. GoBGP keeps how it selects
// routes in variables of a package, which every StartBgp writes and every server
// reads: others stand still meanwhile.
type gate struct {
	parked chan chan struct{} // takes what ends the wait
}

// Observe is called by GoBGP's loop after each step.
func (g *gate) Observe(server.FSMOperation, time.Duration, time.Duration) {
	end := make(chan struct{})
	select {
	case g.parked <- end:
		<-end
	default: // nobody asks
	}
}

// park returns when the server's loop stands still, and a function that lets it
// go on.
func (g *gate) park(s *server.BgpServer) func() {
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() { // a loop with nothing to do has no steps
		for {
			select {
			case <-done:
				return
			default:
				_, _ = s.GetBgp(context.Background(), &api.GetBgpRequest{})
			}
		}
	})
	end := <-g.parked
	close(done)
	return func() {
		close(end)
		wg.Wait()
	}
}

// switchedLog is GoBGP's log, written to whom the server works for. What GoBGP
// calls a warning is in a session's status, in better words: nothing of it is
// for a person.
type switchedLog struct {
	mu sync.Mutex // guards the field below
	l  logr.Logger
}

var _ log.Logger = (*switchedLog)(nil)

func (s *switchedLog) to(l logr.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.l = l
}

func (s *switchedLog) write(level int, msg string, fields log.Fields) {
	s.mu.Lock()
	l := s.l.V(level)
	s.mu.Unlock()
	if !l.Enabled() {
		return
	}
	kv := make([]any, 0, 2*len(fields))
	for k, v := range fields {
		kv = append(kv, k, fmt.Sprint(v))
	}
	l.Info("GoBGP: "+msg, kv...)
}

func (s *switchedLog) Debug(msg string, f log.Fields) { s.write(2, msg, f) }
func (s *switchedLog) Info(msg string, f log.Fields)  { s.write(2, msg, f) }
func (s *switchedLog) Warn(msg string, f log.Fields)  { s.write(1, msg, f) }
func (s *switchedLog) Error(msg string, f log.Fields) { s.write(1, msg, f) }

// Panic and Fatal are GoBGP's for "code logic bug".
func (s *switchedLog) Panic(msg string, f log.Fields) { panic(fmt.Sprint("GoBGP: ", msg, f)) }
func (s *switchedLog) Fatal(msg string, f log.Fields) { panic(fmt.Sprint("GoBGP: ", msg, f)) }

func (s *switchedLog) SetLevel(log.LogLevel) {}

// GetLevel saves GoBGP the work of describing messages that nobody reads.
func (s *switchedLog) GetLevel() log.LogLevel {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.l.V(2).Enabled() {
		return log.DebugLevel
	}
	return log.WarnLevel
}
