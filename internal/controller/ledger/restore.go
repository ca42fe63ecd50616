package ledger

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Restore reads all pools and all addresses in the status of claims and Services,
// once, before the first is assigned (invariant A2). Later calls do nothing.
//
// Call it from a reconciler, when the watches are registered already: what is
// deleted after the list was made then comes as an event.
func (l *Ledger) Restore(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.restored {
		return nil
	}
	var pools v1alpha1.IPAddressPoolList
	var claims v1alpha1.IPAddressClaimList
	var services corev1.ServiceList
	var namespaces corev1.NamespaceList
	var nodes corev1.NodeList
	var speakers v1alpha1.SpeakerList
	var peers v1alpha1.BGPPeerList
	for _, list := range []client.ObjectList{&pools, &claims, &services, &namespaces, &nodes, &speakers, &peers} {
		if err := l.reader.List(ctx, list); err != nil {
			return fmt.Errorf("restore assignments: list %T: %w", list, err)
		}
	}
	l.setPools(pools.Items)
	retiring := map[netip.Addr]string{}
	for i := range pools.Items {
		for _, a := range kube.Retiring(&pools.Items[i]) {
			retiring[a] = pools.Items[i].Name
		}
	}
	kube.Oldest(claims.Items)
	for i := range claims.Items {
		l.adoptClaim(&claims.Items[i], retiring)
	}
	l.observe(services.Items, nodes.Items, speakers.Items, peers.Items)
	// A Service that is no longer ours and still has an address of ours keeps that until
	// its status is written.
	ours := slices.DeleteFunc(services.Items, func(s corev1.Service) bool { return !l.class.Handles(&s) && kube.AssignedCondition(&s) == nil })
	kube.Oldest(ours)
	for i := range ours {
		l.adopt(&ours[i], retiring)
	}
	l.queue(ours, claims.Items, namespaces.Items)
	l.restored = true
	return nil
}

// observe records the addresses that these objects use already.
func (l *Ledger) observe(services []corev1.Service, nodes []corev1.Node, speakers []v1alpha1.Speaker, peers []v1alpha1.BGPPeer) {
	for i := range services {
		l.occupy(serviceSource(kube.Key(&services[i])), l.class.Occupied(&services[i]))
	}
	of := map[string]*v1alpha1.Speaker{}
	for i := range speakers {
		of[speakers[i].Name] = &speakers[i]
	}
	for i := range nodes {
		name := nodes[i].Name
		l.occupy(nodeSource(name), kube.NodeOccupied(name, &nodes[i], of[name]))
		delete(of, name)
	}
	for name, s := range of {
		l.occupy(nodeSource(name), kube.NodeOccupied(name, nil, s))
	}
	for i := range peers {
		l.occupy(peerSource(peers[i].Name), kube.PeerOccupied(&peers[i]))
	}
}

// queue decides for the Services and claims that lack an address, oldest first: they waited
// in that order before, and are reconciled in any order.
func (l *Ledger) queue(services []corev1.Service, claims []v1alpha1.IPAddressClaim, namespaces []corev1.Namespace) {
	labels := map[string]map[string]string{}
	for _, n := range namespaces {
		labels[n.Name] = n.Labels
	}
	var lacking []lb.Request
	recorded := map[lb.Holder][]netip.Addr{} // what other controllers removed from the status
	for i := range claims {
		req, err := kube.ClaimRequest(&claims[i], labels[claims[i].Namespace])
		if err == nil && !req.Deleting && len(l.alloc.Holds(req.Holder)) < len(req.Families) {
			lacking = append(lacking, req)
		}
	}
	for i := range services {
		svc := &services[i]
		req, err := kube.Request(svc, labels[svc.Namespace])
		switch {
		case !l.class.Handles(svc):
		case l.isUnmanaged(svc):
			l.unmanaged.add(svc)
		case err == nil && len(l.alloc.Holds(req.Holder)) < len(req.Families):
			lacking = append(lacking, req)
			if kube.Overwritten(svc) && len(req.Addresses) == 0 && req.Claim == "" {
				recorded[req.Holder] = kube.RecordOf(svc).Addresses()
			}
		}
	}
	slices.SortFunc(lacking, func(x, y lb.Request) int {
		return cmp.Or(x.Created.Compare(y.Created), x.Holder.Compare(y.Holder))
	})
	// A tenant can write a record: what it lists is asked for, like a named address.
	for _, req := range lacking {
		if addrs := recorded[req.Holder]; addrs != nil {
			req.Addresses = addrs
			l.alloc.Allocate(req, l.now())
		}
	}
	for _, req := range lacking {
		l.alloc.Allocate(req, l.now())
	}
}

// adopt records the addresses that the Service has in its status.
func (l *Ledger) adopt(svc *corev1.Service, retiring map[netip.Addr]string) {
	addrs := kube.IngressAddresses(svc)
	if len(addrs) == 0 {
		return
	}
	// A request that cannot be understood still has its key and families.
	req, _ := kube.Request(svc, nil)
	if c := kube.AssignedCondition(svc); c != nil && c.Status == metav1.ConditionFalse {
		req.Pool = "" // its address is not the one that it asks for, so it still waits for that
	}
	l.restore(req, addrs, retiring, kube.RecordedPools(svc))
}

// adoptClaim records the addresses that the claim has in its status.
func (l *Ledger) adoptClaim(c *v1alpha1.IPAddressClaim, retiring map[netip.Addr]string) {
	if addrs, pools := kube.ClaimAddresses(c); len(addrs) > 0 {
		req, _ := kube.ClaimRequest(c, nil)
		l.restore(req, addrs, retiring, pools)
	}
}

// restore records the addresses of a holder. Of an address that no pool's spec has any more,
// the pool is the one that lists it as retiring or, where the pool was edited while no
// controller ran, the recorded one.
func (l *Ledger) restore(req lb.Request, addrs []netip.Addr, retiring, recorded map[netip.Addr]string) {
	from := map[netip.Addr]string{}
	maps.Copy(from, recorded)
	maps.Copy(from, retiring)
	grants, conflicts := l.alloc.Restore(req, addrs, from)
	for _, g := range grants {
		delete(l.fresh, g.Addr) // it may have been new to an earlier holder
	}
	l.used(grants)
	if len(conflicts) > 0 {
		l.conflicts[req.Holder] = conflicts
	}
}

// adoptUnmanaged adopts the unmanaged Services whose addresses a pool has now, oldest
// first, and returns them.
func (l *Ledger) adoptUnmanaged() (adopted []lb.Holder) {
	services := l.unmanaged.oldestFirst()
	for i := range services {
		if svc := &services[i]; !l.isUnmanaged(svc) {
			l.adopt(svc, nil)
			l.unmanaged.remove(kube.Key(svc))
			adopted = append(adopted, kube.Key(svc).Holder())
		}
	}
	return adopted
}

// adoptNew adopts a Service that is new to the ledger.
func (l *Ledger) adoptNew(svc *corev1.Service) {
	if !l.alloc.Knows(kube.Key(svc).Holder()) {
		l.adopt(svc, nil)
	}
}

// isUnmanaged reports whether the Service has addresses, none of which Fairlead assigned or
// a pool has.
func (l *Ledger) isUnmanaged(svc *corev1.Service) bool {
	addrs := kube.IngressAddresses(svc)
	if len(addrs) == 0 || len(l.alloc.Holds(kube.Key(svc).Holder())) > 0 {
		return false
	}
	if kube.Overwritten(svc) {
		return false
	}
	recorded := kube.RecordedPools(svc)
	return !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return recorded[a] != "" || len(l.pools.with(a)) > 0 })
}
