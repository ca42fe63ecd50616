package servicestatus

import (
	"context"
	"fmt"
	"maps"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/view"
)

// objects are the objects on which the conditions of all Services depend. They are kept for
// as long as nothing changes: of Services that share an address, or that one event
// concerns, only the first pays for it.
type objects struct {
	version uint64
	pools   kube.PoolSet
	view    view.View
	known   map[lb.Grant]announced // what was found out already
}

// viewOf returns what speakers know of the Service, as the API server has it.
func (c *Controller) viewOf(ctx context.Context, svc *corev1.Service) (serviceView, lb.Assignment, error) {
	all, err := c.objects(ctx)
	if err != nil {
		return serviceView{}, lb.Assignment{}, err
	}
	as, err := c.assignment(ctx, svc, all.pools)
	if err != nil {
		return serviceView{}, lb.Assignment{}, err
	}
	v := serviceView{View: all.view, sharers: map[netip.Addr][]lb.Assignment{}, known: all.known}
	for _, g := range as.Grants {
		if _, known := v.known[g]; known {
			continue
		}
		sharers, err := c.sharers(ctx, g.Addr, all.pools)
		if err != nil {
			return serviceView{}, lb.Assignment{}, err
		}
		if len(sharers) == 0 { // the Service has left it since it was read; it comes again
			v.sharers[g.Addr] = []lb.Assignment{as}
			v.known = maps.Clone(v.known) // not to be kept
			continue
		}
		v.sharers[g.Addr] = sharers
	}
	return v, as, nil
}

// objects returns the objects as they are now.
func (c *Controller) objects(ctx context.Context) (*objects, error) {
	version := c.version.Load() // before the lists: they may have what comes after it, never less
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	if last != nil && last.version == version {
		return last, nil
	}
	var pools v1alpha1.IPAddressPoolList
	var adverts v1alpha1.L2AdvertisementList
	var routes v1alpha1.BGPAdvertisementList
	var peers v1alpha1.BGPPeerList
	var nodes corev1.NodeList
	var speakers v1alpha1.SpeakerList
	for _, list := range []client.ObjectList{&pools, &adverts, &routes, &peers, &nodes, &speakers} {
		if err := c.client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("list %T: %w", list, err)
		}
	}
	all := &objects{version: version, pools: kube.NewPoolSet(pools.Items), known: map[lb.Grant]announced{}, view: view.New(view.Objects{
		Pools: pools.Items, L2Advertisements: adverts.Items, BGPAdvertisements: routes.Items, BGPPeers: peers.Items,
		Nodes: nodes.Items, Speakers: speakers.Items,
	})}
	c.mu.Lock()
	c.last = all
	c.mu.Unlock()
	return all, nil
}

// sharers returns the Services that have the address.
func (c *Controller) sharers(ctx context.Context, a netip.Addr, pools kube.PoolSet) (out []lb.Assignment, err error) {
	var list corev1.ServiceList
	if err := c.client.List(ctx, &list, client.MatchingFields{byAddress: a.String()}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list Services of %s: %w", a, err)
	}
	for i := range list.Items {
		if !c.class.Handles(&list.Items[i]) {
			continue
		}
		as, err := c.assignment(ctx, &list.Items[i], pools)
		if err != nil {
			return nil, err
		}
		out = append(out, as)
	}
	return out, nil
}

// assignment returns the Service as speakers have it.
func (c *Controller) assignment(ctx context.Context, svc *corev1.Service, pools kube.PoolSet) (lb.Assignment, error) {
	var endpoints discoveryv1.EndpointSliceList
	mine := client.MatchingFields{byService: svc.Name}
	if err := c.client.List(ctx, &endpoints, client.InNamespace(svc.Namespace), mine, client.UnsafeDisableDeepCopy); err != nil {
		return lb.Assignment{}, fmt.Errorf("list EndpointSlices of %s: %w", kube.Key(svc), err)
	}
	return kube.Assignment(svc, endpoints.Items, pools), nil
}

// serviceView is what is known about one Service.
type serviceView struct {
	view.View
	sharers map[netip.Addr][]lb.Assignment // the Services that have the address
	known   map[lb.Grant]announced         // what was found out before; nil when it is not to be kept
}

// announcementOf returns who announces the address, and the texts about it.
func (v *serviceView) announcementOf(g lb.Grant) announced {
	if known, ok := v.known[g]; ok {
		return known
	}
	a := v.Announcement(v.sharers[g.Addr], g)
	found := announced{a, layer2(&v.View, &a), bgp(&a)}
	if v.known == nil {
		v.known = map[lb.Grant]announced{}
	}
	v.known[g] = found
	return found
}
