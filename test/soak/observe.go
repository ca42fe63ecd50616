package soak

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// listenFor is how long answers by ARP and NDP are waited for.
const listenFor = 300 * time.Millisecond

// observe looks at everything once. Of what it sees first and last moments lie a second
// apart, so what changes meanwhile may look wrong.
func (w *world) observe(ctx context.Context) (*Observation, error) {
	o := &Observation{Speakers: map[string]Speaker{}, Routes: map[string]map[netip.Prefix][]string{}, Unserved: map[netip.Addr]string{}}
	for _, n := range w.Nodes {
		o.Nodes = append(o.Nodes, n.Name)
		if p := w.speaker(n.Name); !runs(p) {
			o.Ended = append(o.Ended, fmt.Sprintf("%s has ended: %s", p.Name, p.Tail(20)))
		}
	}
	for _, look := range []func(context.Context, *Observation) error{w.readServices, w.readSpeakers, w.askForAddresses, w.readRoutes, w.askServices} {
		if err := look(ctx, o); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func (w *world) readServices(ctx context.Context, o *Observation) error {
	var list corev1.ServiceList
	if err := w.api.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return err
	}
	for i := range list.Items {
		svc := &list.Items[i]
		if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		o.Services = append(o.Services, Service{
			Name: svc.Name, UID: string(svc.UID), Families: len(svc.Spec.IPFamilies), BGP: svc.Annotations[v1alpha1.AnnotationAddressPool] == bgpPool,
			Addresses: kube.IngressAddresses(svc),
			Assigned:  condition(svc.Status.Conditions, v1alpha1.ConditionAddressAssigned),
			Announced: condition(svc.Status.Conditions, v1alpha1.ConditionAnnounced),
		})
	}
	return nil
}

func condition(all []metav1.Condition, kind string) Condition {
	c := meta.FindStatusCondition(all, kind)
	if c == nil {
		return Condition{Message: "there is no condition " + kind}
	}
	return Condition{True: c.Status == metav1.ConditionTrue, Message: c.Reason + ": " + c.Message}
}

func (w *world) readSpeakers(ctx context.Context, o *Observation) error {
	var list v1alpha1.SpeakerList
	if err := w.api.List(ctx, &list); err != nil {
		return err
	}
	for _, s := range list.Items {
		out := Speaker{Ready: condition(s.Status.Conditions, v1alpha1.ConditionReady)}
		for _, a := range s.Status.Layer2 {
			addr, err := netip.ParseAddr(a.Address)
			if err != nil {
				return fmt.Errorf("Speaker %s: %w", s.Name, err)
			}
			out.Owns = append(out.Owns, addr)
		}
		if metrics, err := w.metrics(ctx, w.Node(s.Name), speakerMetrics); err == nil { // one that has ended is told of by Ended
			out.Members = int(metrics["fairlead_speaker_members"])
		}
		o.Speakers[s.Name] = out
	}
	return nil
}

// metrics reads a process's metrics from inside of its host.
func (w *world) metrics(ctx context.Context, h *lab.Host, address string) (map[string]float64, error) {
	web := &http.Client{Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true}, Timeout: 5 * time.Second}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := web.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return parseMetrics(res.Body)
}

// usage reads what each speaker uses, and what all controllers use together: the one
// that leads uses more than the others, and another one may lead in each calm.
func (w *world) usage(ctx context.Context) (map[string]Usage, error) {
	out := map[string]Usage{}
	add := func(name string, h *lab.Host, address string) error {
		metrics, err := w.metrics(ctx, h, address)
		if err != nil {
			return fmt.Errorf("metrics of %s: %w", name, err)
		}
		u, err := usageOf(metrics)
		if err != nil {
			return fmt.Errorf("metrics of %s: %w", name, err)
		}
		out[name] = out[name].plus(u)
		return nil
	}
	for _, n := range w.Nodes {
		if err := add("speaker-"+n.Name, n, speakerMetrics); err != nil {
			return nil, err
		}
	}
	for n := 1; n <= controllers; n++ {
		if err := add("controllers", w.ControlPlane, fmt.Sprintf("127.0.0.1:%d", metricsBasePort+n)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// askForAddresses asks for every address of the layer 2 pool, in use or not.
func (w *world) askForAddresses(_ context.Context, o *Observation) (err error) {
	for _, first := range []string{"172.30.0.%d", "fd30::%d"} {
		last := netip.MustParseAddr(fmt.Sprintf(first, lastLayer2))
		for a := netip.MustParseAddr(fmt.Sprintf(first, firstLayer2)); !last.Less(a); a = a.Next() {
			o.Asked = append(o.Asked, a)
		}
	}
	o.Answers, err = w.Observer.Who(o.Asked, listenFor)
	return err
}

func (w *world) readRoutes(_ context.Context, o *Observation) error {
	for _, r := range w.Routers() {
		fib, err := r.FIB()
		if err != nil {
			return err
		}
		o.Routes[r.Name] = map[netip.Prefix][]string{}
		for p, hops := range fib {
			var via []string
			for _, hop := range hops {
				via = append(via, w.NodeByIP(hop))
			}
			slices.Sort(via)
			o.Routes[r.Name][p] = via
		}
	}
	return nil
}

// askServices asks each address by HTTP: those of layer 2 on the LAN, those of BGP from
// behind each router.
func (w *world) askServices(ctx context.Context, o *Observation) error {
	var mu sync.Mutex // guards o.Unserved
	var asking sync.WaitGroup
	for _, s := range o.Services {
		for _, a := range s.Addresses {
			from := []*lab.Host{w.Client}
			if s.BGP {
				from = nil
				for _, r := range w.Routers() {
					from = append(from, r.Client)
				}
			}
			asking.Go(func() {
				for _, h := range from {
					if err := get(ctx, h, a); err != nil {
						mu.Lock()
						o.Unserved[a] = fmt.Sprintf("%s from %s: %v", s.Name, h.Name, err)
						mu.Unlock()
					}
				}
			})
		}
	}
	asking.Wait()
	return nil
}

func get(ctx context.Context, from *lab.Host, to netip.Addr) error {
	web := &http.Client{Transport: &http.Transport{DialContext: from.Dial, DisableKeepAlives: true}, Timeout: 3 * time.Second}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+netip.AddrPortFrom(to, 80).String(), nil)
	if err != nil {
		return err
	}
	res, err := web.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return err
}
