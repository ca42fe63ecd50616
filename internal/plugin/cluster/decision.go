package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/controller/ledger"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Decision is what the controller answers a Service's request for addresses.
type Decision struct {
	Request     lb.Request
	Invalid     error       // names the annotation or field that cannot be understood
	Now         lb.Decision // with what the Service has
	FromScratch lb.Decision // what it would get if it had no address: the pools that are asked, and their answers
	Foreign     bool        // it has addresses that are not ours to touch
}

// Decide asks the controllers' own ledger, restored from what was read, about a
// Service of ours. A ledger that answers also assigns, so each question gets its own: the
// answer must not depend on which other Services were asked about before.
func (c *Cluster) Decide(svc *corev1.Service) (Decision, error) {
	req, invalid := kube.Request(svc, c.namespaceLabels(svc.Namespace))
	d := Decision{Request: req, Invalid: invalid}
	if invalid != nil {
		return d, nil
	}
	book, err := c.restore(nil)
	if err != nil {
		return d, err
	}
	d.Now, d.Foreign = book.Decide(svc, req)
	if book, err = c.restore(svc); err != nil {
		return d, err
	}
	bare := svc.DeepCopy()
	bare.Status = corev1.ServiceStatus{}
	d.FromScratch, _ = book.Decide(bare, req)
	return d, nil
}

// restore returns a ledger restored from what was read, without one Service if that is not nil.
func (c *Cluster) restore(without *corev1.Service) (*ledger.Ledger, error) {
	book := ledger.New(reader{objects: &c.Objects, without: without}, c.Class, func() time.Time { return c.Read })
	if err := book.Restore(context.Background()); err != nil { // it reads from memory
		return nil, err
	}
	return book, nil
}

// ledger returns the ledger that is kept between questions, or nil if it cannot be restored.
func (c *Cluster) ledger() *ledger.Ledger {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.book == nil {
		c.book, _ = c.restore(nil)
	}
	return c.book
}

// Refusals returns why the Service lacks an address, by pool.
func (c *Cluster) Refusals(svc *corev1.Service) []lb.Refusal {
	book := c.ledger()
	req, invalid := kube.Request(svc, c.namespaceLabels(svc.Namespace))
	if book == nil || invalid != nil {
		return nil
	}
	d, _ := book.Decide(svc, req)
	return d.Refusals
}

// Blocked returns which of the Service's addresses something else has too.
func (c *Cluster) Blocked(key lb.ServiceKey) []lb.Blocked {
	if book := c.ledger(); book != nil {
		return book.Blocked(key.Holder())
	}
	return nil
}

// BlocksOf returns what has an address beside Services and claims of ours.
func (c *Cluster) BlocksOf(a netip.Addr) []lb.Block {
	if book := c.ledger(); book != nil {
		return book.BlocksOf(a)
	}
	return nil
}

// Withheld returns the addresses of a pool that are not assigned as something else has them.
func (c *Cluster) Withheld(pool string) []lb.Blocked {
	if book := c.ledger(); book != nil {
		return book.Withheld(pool)
	}
	return nil
}

func (c *Cluster) namespaceLabels(name string) map[string]string {
	for i := range c.Namespaces {
		if c.Namespaces[i].Name == name {
			return c.Namespaces[i].Labels
		}
	}
	return nil
}

// reader is the API server to a ledger: what was read, without one Service.
type reader struct {
	client.Reader // nobody gets one by one what was read as a whole
	objects       *Objects
	without       *corev1.Service
}

// List fills in the list, with copies of what a ledger sorts.
func (r reader) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	switch l := list.(type) {
	case *v1alpha1.IPAddressPoolList:
		l.Items = r.objects.Pools
	case *v1alpha1.IPAddressClaimList:
		l.Items = slices.Clone(r.objects.Claims)
	case *corev1.NamespaceList:
		l.Items = r.objects.Namespaces
	case *corev1.NodeList:
		l.Items = r.objects.Nodes
	case *v1alpha1.SpeakerList:
		l.Items = r.objects.Speakers
	case *v1alpha1.BGPPeerList:
		l.Items = r.objects.BGPPeers
	case *corev1.ServiceList:
		l.Items = slices.Clone(r.objects.Services)
		if r.without != nil {
			l.Items = slices.DeleteFunc(l.Items, func(s corev1.Service) bool { return kube.Key(&s) == kube.Key(r.without) })
		}
	default:
		return fmt.Errorf("%T was not read", list)
	}
	return nil
}
