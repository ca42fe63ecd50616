package cluster_test

import (
	"reflect"
	"testing"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plugin/clustertest"
)

// Two Services wait to move to the only address of another pool, which is free now: what is answered for one
// does not depend on whether the other was asked about before.
func TestDecideDoesNotAffectOthers(t *testing.T) {
	objects := clustertest.Small()
	objects.AddPool("one", "172.30.0.200-172.30.0.200")
	objects.AddService("shop", "api", "172.30.0.101")
	for _, name := range []string{"web", "api"} {
		objects.Service("shop", name).Annotations = map[string]string{v1alpha1.AnnotationAddressPool: "one"}
		objects.Refuse("shop", name, lb.ReasonExhausted.String(), "no address is free")
	}
	c := objects.New()
	for range 2 {
		for _, name := range []string{"web", "api"} {
			d, err := c.Decide(c.Service(lb.ServiceKey{Namespace: "shop", Name: name}))
			if err != nil {
				t.Fatal(err)
			}
			for _, answer := range []lb.Decision{d.Now, d.FromScratch} {
				if !answer.Met || len(answer.Grants) != 1 || answer.Grants[0].Addr != clustertest.Addr("172.30.0.200") {
					t.Errorf("%s: got %+v, want the address of pool one", name, answer)
				}
			}
			fresh, err := objects.New().Decide(c.Service(lb.ServiceKey{Namespace: "shop", Name: name}))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(d, fresh) {
				t.Errorf("%s: got %+v, and %+v from a cluster that was not asked before", name, d, fresh)
			}
		}
	}
}
