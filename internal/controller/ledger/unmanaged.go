package ledger

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// unmanaged are the Services of our class whose addresses no pool has and Fairlead did not
// assign. They are adopted when a pool has the addresses. The ledger's lock guards them.
type unmanaged map[lb.ServiceKey]*corev1.Service

// add remembers the Service, which must not be changed afterwards.
func (u unmanaged) add(svc *corev1.Service) { u[kube.Key(svc)] = svc }

func (u unmanaged) remove(key lb.ServiceKey) { delete(u, key) }

// oldestFirst returns the Services, sorted by age.
func (u unmanaged) oldestFirst() []corev1.Service {
	list := make([]corev1.Service, 0, len(u))
	for _, svc := range u {
		list = append(list, *svc)
	}
	kube.Oldest(list)
	return list
}
