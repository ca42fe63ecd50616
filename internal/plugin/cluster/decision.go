package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/controller/ledger"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/lb"
)

// Decision is what the controller answers a Service's request for addresses.
type Decision struct {
	Request lb.Request
	Invalid error       // names the annotation or field that cannot be understood
	Now     lb.Decision // with what the Service has
	Anew    lb.Decision // what it would be given if it had nothing: which pools are asked, and what they say
	Foreign bool        // it has addresses that are not ours to touch
}

// Decide asks the controllers' own ledger, restored from what was read, about a
// Service of ours.
func (c *Cluster) Decide(svc *corev1.Service) (Decision, error) {
	req, invalid := kube.Request(svc, c.namespaceLabels(svc.Namespace))
	d := Decision{Request: req, Invalid: invalid}
	if invalid != nil {
		return d, nil
	}
	var err error
	if d.Now, d.Foreign, err = c.ask(reader{objects: &c.Objects}, svc, req); err != nil {
		return d, err
	}
	bare := svc.DeepCopy()
	bare.Status = corev1.ServiceStatus{}
	d.Anew, _, err = c.ask(reader{objects: &c.Objects, without: svc}, bare, req)
	return d, err
}

func (c *Cluster) ask(from client.Reader, svc *corev1.Service, req lb.Request) (lb.Decision, bool, error) {
	book := ledger.New(from, c.Class, func() time.Time { return c.Read })
	if err := book.Restore(context.Background()); err != nil { // it reads from memory
		return lb.Decision{}, false, err
	}
	d, foreign := book.Decide(svc, req)
	return d, foreign, nil
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
