// Package cluster holds what the plugin knows of a cluster: its objects as they
// were read, and what Fairlead's own code concludes from them.
//
// Reports are made of it by pure functions, so that each can be tested as a table
// of objects and text.
package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
)

// leaseName is the lease by which controllers elect the active one.
const leaseName = "fairlead-controller"

// Install says how Fairlead was installed.
type Install struct {
	Namespace string
	Class     kube.Class
}

// Objects are what was read of a cluster.
type Objects struct {
	Pools             []v1alpha1.IPAddressPool
	Claims            []v1alpha1.IPAddressClaim
	L2Advertisements  []v1alpha1.L2Advertisement
	BGPAdvertisements []v1alpha1.BGPAdvertisement
	BGPPeers          []v1alpha1.BGPPeer
	Speakers          []v1alpha1.Speaker
	Services          []corev1.Service
	Endpoints         []discoveryv1.EndpointSlice
	Nodes             []corev1.Node
	Namespaces        []corev1.Namespace
	ServiceCIDRs      []networkingv1.ServiceCIDR // none in clusters that do not tell
	Lease             *coordinationv1.Lease      // of the active controller; nil when there is none, or it may not be read

	// Unread are what could not be read, and why. A report goes without it and says so.
	Unread []string
	Read   time.Time // when that was, by the API server's clock as far as it is known

	// Ahead is how far the clock of this machine is ahead of the API server's, as
	// clockcheck.Verdict has it.
	Ahead time.Duration
}

// Read reads the objects. What a person with few rights may lack is left out and
// noted; without the rest there is nothing to say.
func Read(ctx context.Context, c client.Reader, in Install) (Objects, error) {
	o := Objects{Read: time.Now()}
	var pools v1alpha1.IPAddressPoolList
	var claims v1alpha1.IPAddressClaimList
	var l2 v1alpha1.L2AdvertisementList
	var bgp v1alpha1.BGPAdvertisementList
	var peers v1alpha1.BGPPeerList
	var speakers v1alpha1.SpeakerList
	var services corev1.ServiceList
	var endpoints discoveryv1.EndpointSliceList
	var nodes corev1.NodeList
	var namespaces corev1.NamespaceList
	var cidrs networkingv1.ServiceCIDRList
	needed := []client.ObjectList{&pools, &claims, &l2, &bgp, &peers, &speakers, &services, &endpoints, &nodes}
	useful := []client.ObjectList{&namespaces, &cidrs}
	failed := make([]error, len(useful))
	g, ctx := errgroup.WithContext(ctx)
	for _, list := range needed {
		g.Go(func() error { return explainRead(c.List(ctx, list), list) })
	}
	for i, list := range useful {
		g.Go(func() error { failed[i] = c.List(ctx, list); return nil })
	}
	var lease coordinationv1.Lease
	var noLease error
	g.Go(func() error {
		noLease = c.Get(ctx, client.ObjectKey{Namespace: in.Namespace, Name: leaseName}, &lease)
		return nil
	})
	if err := g.Wait(); err != nil {
		return o, err
	}
	o.Pools, o.Claims, o.L2Advertisements, o.BGPAdvertisements = pools.Items, claims.Items, l2.Items, bgp.Items
	o.BGPPeers, o.Speakers, o.Services, o.Endpoints = peers.Items, speakers.Items, services.Items, endpoints.Items
	o.Nodes, o.Namespaces, o.ServiceCIDRs = nodes.Items, namespaces.Items, cidrs.Items
	for i, err := range failed {
		if err != nil && !meta.IsNoMatchError(err) && !apierrors.IsNotFound(err) {
			o.Unread = append(o.Unread, fmt.Sprintf("%s: %v", kindOf(useful[i]), err))
		}
	}
	switch {
	case noLease == nil:
		o.Lease = &lease
	case !apierrors.IsNotFound(noLease):
		o.Unread = append(o.Unread, fmt.Sprintf("Lease %s/%s: %v", in.Namespace, leaseName, noLease))
	}
	slices.Sort(o.Unread)
	return o, nil
}

// explainRead says what to do when a list cannot be read.
func explainRead(err error, list client.ObjectList) error {
	switch {
	case err == nil:
		return nil
	case meta.IsNoMatchError(err):
		return fmt.Errorf("the cluster has no %s: is Fairlead installed in it, and is it the right --context?", kindOf(list))
	case apierrors.IsForbidden(err):
		return fmt.Errorf("list %s: %w (ask for the right to get and list it)", kindOf(list), err)
	default:
		return fmt.Errorf("list %s: %w", kindOf(list), err)
	}
}

// kindOf names what is in the list, as people do.
func kindOf(list client.ObjectList) string {
	switch list.(type) {
	case *v1alpha1.IPAddressPoolList:
		return "IPAddressPools"
	case *v1alpha1.IPAddressClaimList:
		return "IPAddressClaims"
	case *v1alpha1.L2AdvertisementList:
		return "L2Advertisements"
	case *v1alpha1.BGPAdvertisementList:
		return "BGPAdvertisements"
	case *v1alpha1.BGPPeerList:
		return "BGPPeers"
	case *v1alpha1.SpeakerList:
		return "Speakers"
	case *corev1.ServiceList:
		return "Services"
	case *discoveryv1.EndpointSliceList:
		return "EndpointSlices"
	case *corev1.NodeList:
		return "Nodes"
	case *corev1.NamespaceList:
		return "Namespaces"
	case *networkingv1.ServiceCIDRList:
		return "ServiceCIDRs"
	default:
		return fmt.Sprintf("%T", list)
	}
}
