package bench

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// BenchmarkBGPFreshPeer makes a router a peer of a speaker that announces 10,000
// routes, ten times, and reports how long it takes until the last is in the router's
// kernel: from the creation of the BGPPeer, and from the first route; and the
// speaker's memory with one more such peer, at rest.
//
// There is no controller: what it would write is written once.
func BenchmarkBGPFreshPeer(b *testing.B) {
	const routes = 10_000
	r := newRouted(b, lab.FRR)
	r.stopProxies(b)
	giveKey(b, r.c, bytes.Repeat([]byte{7}, 32))
	each(routes, func(i int) {
		svc := service(fmt.Sprint("fresh-", i))
		svc.Spec.AllocateLoadBalancerNodePorts = ptr.To(false)
		err := createWith(b.Context(), r.c, svc, netip.AddrFrom4([4]byte{10, 30, byte(i >> 8), byte(i)}))
		if err = errors.Join(err, r.c.Create(b.Context(), endpoint(svc.Name, "n1"))); err != nil {
			b.Error(err)
		}
	})
	if b.Failed() {
		b.FailNow()
	}
	p, err := r.StartSpeaker(b.Context(), "n1")
	must(b, err)
	must(b, p.Ready(b.Context()))
	var all, sent []time.Duration
	for b.Loop() {
		for i := range bgpRuns {
			created, first, last, part := r.meet(b, fmt.Sprint("fresh-", i), routes)
			all, sent = append(all, last.Sub(created)), append(sent, last.Sub(first))
			part()
		}
	}
	r.meet(b, "last", routes)
	time.Sleep(settle)
	b.ReportMetric(quantile(all, 0.5), "all-p50-ms")
	b.ReportMetric(quantile(all, 1), "all-max-ms")
	b.ReportMetric(quantile(sent, 0.5), "first-to-last-p50-ms")
	b.ReportMetric(memory(b, p.PID, "VmRSS"), "rss-MB")
	b.ReportMetric(memory(b, p.PID, "VmHWM"), "hwm-MB")
}

// stopProxies ends all kube-proxies: they would write rules for all Services.
func (r *routed) stopProxies(b *testing.B) {
	b.Helper()
	for _, n := range r.Nodes {
		must(b, r.Process("kube-proxy-"+n.Name).Kill())
	}
}

// meet makes the router a peer of all nodes, and returns when the peer was created,
// when the first and the last of so many routes were in the router, and what takes
// the peer away again.
func (r *routed) meet(b *testing.B, name string, routes int) (created, first, last time.Time, part func()) {
	b.Helper()
	router := r.Routers()[0]
	w, err := router.WatchRoutes()
	must(b, err)
	b.Cleanup(w.Stop)
	p := &v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.BGPPeerSpec{
		MyASN: lab.ClusterASN, PeerASN: lab.RouterASN, PeerAddress: v1alpha1.IPAddress(router.IPv4.String()),
	}}
	created = time.Now()
	must(b, r.c.Create(b.Context(), p))
	untilRoutes(b, w, routes)
	changes := w.Changes()
	must(b, w.Err())
	return created, changes[0].At, changes[routes-1].At, func() {
		must(b, r.c.Delete(b.Context(), p))
		untilRoutes(b, w, 0)
		w.Stop()
	}
}

func untilRoutes(b *testing.B, w *lab.RouteWatch, want int) {
	b.Helper()
	lab.Eventually(b, time.Minute, func() error {
		if got := len(w.Now()); got != want {
			return fmt.Errorf("the router has %d routes, want %d", got, want)
		}
		return nil
	})
}

// BenchmarkBGPSoak has 1,000 Services of which 20 a second change: an endpoint is
// ready on another node, or nowhere. Two routers, FRR and BIRD, are peers of three
// nodes. Reported are the sessions that were lost, the routes that are not what they
// should be in the end, and the memory of the largest speaker on the way.
//
//	go test ./test/bench -run '^$' -bench BGPSoak -benchtime 1x -timeout 1h -soak=10m
func BenchmarkBGPSoak(b *testing.B) {
	const perSecond = 20
	r := newRouted(b, lab.FRR, lab.BIRD)
	r.stopProxies(b)
	must(b, r.StartFairlead(b.Context()))
	s := &restless{routed: r}
	s.populate(b)
	r.peer(b, watching(300*time.Millisecond), r.Routers()...)
	s.untilRight(b)
	if n := s.wrong(b); n > 0 {
		b.Fatalf("%d routes are wrong before anything changed", n)
	}
	lost := r.resets(b)
	var rss [3]float64
	rss[0] = r.largestSpeaker(b)
	changes := 0
	for b.Loop() {
		tick := time.NewTicker(time.Second / perSecond)
		for began := time.Now(); time.Since(began) < *soak; changes++ {
			<-tick.C
			s.change(b)
			if rss[1] == 0 && time.Since(began) > *soak/2 {
				rss[1] = r.largestSpeaker(b)
			}
		}
		tick.Stop()
	}
	rss[2] = r.largestSpeaker(b)
	s.untilRight(b)
	b.ReportMetric(soak.Minutes(), "minutes")
	b.ReportMetric(float64(changes), "changes")
	b.ReportMetric(float64(r.resets(b)-lost), "resets")
	b.ReportMetric(float64(s.wrong(b)), "routes-wrong")
	for i, when := range []string{"start", "middle", "end"} {
		b.ReportMetric(rss[i], "rss-"+when+"-MB")
	}
}

// restless are Services whose endpoints come and go.
type restless struct {
	*routed
	slices []*discoveryv1.EndpointSlice
	routes []netip.Prefix
	want   map[netip.Prefix]string // the node that leads there, or ""
}

const restlessServices = 1000

func (s *restless) populate(b *testing.B) {
	b.Helper()
	s.slices, s.routes = make([]*discoveryv1.EndpointSlice, restlessServices), make([]netip.Prefix, restlessServices)
	s.want = map[netip.Prefix]string{}
	each(restlessServices, func(i int) {
		svc := local(fmt.Sprint("soak-", i))
		svc.Spec.AllocateLoadBalancerNodePorts = ptr.To(false)
		s.slices[i] = endpoint(svc.Name, s.Nodes[i%len(s.Nodes)].Name)
		if err := errors.Join(s.c.Create(b.Context(), svc), s.c.Create(b.Context(), s.slices[i])); err != nil {
			b.Error(err)
		}
	})
	if b.Failed() {
		b.FailNow()
	}
	for i, slice := range s.slices {
		svc := service(slice.Name)
		s.routes[i] = s.untilAddress(b, svc)
		s.want[s.routes[i]] = *slice.Endpoints[0].NodeName
	}
}

// change has one endpoint be ready on another node, or nowhere.
func (s *restless) change(b *testing.B) {
	b.Helper()
	i, n := rand.IntN(len(s.slices)), rand.IntN(len(s.Nodes)+1)
	e := &s.slices[i].Endpoints[0]
	e.Conditions.Ready, s.want[s.routes[i]] = new(n < len(s.Nodes)), ""
	if n < len(s.Nodes) {
		e.NodeName, s.want[s.routes[i]] = &s.Nodes[n].Name, s.Nodes[n].Name
	}
	must(b, s.c.Update(b.Context(), s.slices[i]))
}

// wrong counts the routes of all routers that do not lead where they should.
func (s *restless) wrong(b *testing.B) (n int) {
	b.Helper()
	for _, router := range s.Routers() {
		fib, err := router.FIB()
		must(b, err)
		for to, want := range s.want {
			got := ""
			for _, hop := range fib[to] {
				got += s.NodeByIP(hop)
			}
			if got != want {
				n++
			}
		}
	}
	return n
}

// untilRight gives routes a while to be what they should be; what is wrong then is
// counted by who asks.
func (s *restless) untilRight(b *testing.B) {
	b.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end) && s.wrong(b) > 0; {
		<-tick.C
	}
}

// resets is how often the routers have lost sessions.
func (r *routed) resets(b *testing.B) (n int) {
	b.Helper()
	for _, router := range r.Routers() {
		sessions, err := router.Sessions(b.Context())
		must(b, err)
		for _, s := range sessions {
			n += s.Resets
		}
	}
	return n
}

// largestSpeaker is the memory of the speaker that has the most.
func (r *routed) largestSpeaker(b *testing.B) float64 {
	b.Helper()
	var all []float64
	for _, n := range r.Nodes {
		all = append(all, memory(b, r.Process("speaker-"+n.Name).PID, "VmRSS"))
	}
	return slices.Max(all)
}

// BenchmarkBFDLoad keeps all processors busy with processes of ordinary priority and
// counts the sessions of BFD, 50 ms x 3, and of BGP that go down, which none should.
//
//	go test ./test/bench -run '^$' -bench BFDLoad -benchtime 1x -timeout 1h -soak=10m
func BenchmarkBFDLoad(b *testing.B) {
	r := newRouted(b, lab.FRR)
	must(b, r.StartFairlead(b.Context()))
	punctual(b, r.Routers()[0])
	r.peer(b, watching(50*time.Millisecond), r.Routers()...)
	downs, lost := r.downs(b), r.resets(b)
	for i := range 2 * runtime.NumCPU() {
		_, err := r.Client.Start(fmt.Sprint("busy-", i), "sh", "-c", "while :; do :; done")
		must(b, err)
	}
	for b.Loop() {
		select {
		case <-time.After(*soak):
		case <-b.Context().Done():
		}
	}
	b.ReportMetric(soak.Minutes(), "minutes")
	b.ReportMetric(float64(r.downs(b)-downs), "bfd-downs")
	b.ReportMetric(float64(r.resets(b)-lost), "bgp-resets")
}

// downs is how often the routers have seen nodes go down by BFD.
func (r *routed) downs(b *testing.B) (n int) {
	b.Helper()
	for _, router := range r.Routers() {
		sessions, err := router.BFD(b.Context())
		must(b, err)
		for _, s := range sessions {
			n += s.Downs
		}
	}
	return n
}
