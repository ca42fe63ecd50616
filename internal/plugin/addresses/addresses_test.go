package addresses

import (
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/plugin/clustertest"
)

// several is a cluster whose addresses differ in all that the report tells.
func several() *clustertest.Cluster {
	c := clustertest.Small()
	c.AddPool("dmz", "198.51.100.0/28")
	c.L2Advertisements[0].Spec.Interfaces = []v1alpha1.InterfacePattern{"eth0"} // the pool is in no subnet of the nodes
	c.AddService("blog", "web", "198.51.100.3").Status.Conditions[0].LastTransitionTime = clustertest.Ago(time.Hour)
	c.Serve("blog", "web", "n3")
	c.Announce("n3", "198.51.100.3", "blog/web")
	for _, name := range []string{"dns-tcp", "dns-udp"} {
		svc := c.AddService("shop", name, "172.30.0.102")
		metav1.SetMetaDataAnnotation(&svc.ObjectMeta, v1alpha1.AnnotationAllowSharedIP, "dns")
		c.Serve("shop", name, "n1")
	}
	c.Announce("n2", "172.30.0.102", "shop/dns-tcp", "shop/dns-udp")
	c.Speaker("n2").Status.Layer2[0].Since = clustertest.Ago(5 * time.Second)
	c.AddService("shop", "idle", "172.30.0.101").Status.Conditions[0].LastTransitionTime = clustertest.Ago(time.Minute)
	c.AddService("shop", "old", "172.30.0.7")
	c.Serve("shop", "old", "n1")
	c.Announce("n1", "172.30.0.7", "shop/old")
	c.Pools[0].Status.Retiring = []v1alpha1.RetiringAddress{{Address: "172.30.0.7", Service: "shop/old"}}
	c.Claims = []v1alpha1.IPAddressClaim{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "blog", Name: "later"},
		Status: v1alpha1.IPAddressClaimStatus{
			Addresses: []string{"172.30.0.130"}, Pool: "lan", Conditions: clustertest.Ready(true, v1alpha1.ReasonReserved, `172.30.0.130 from pool "lan"; for the Service`),
		},
	}}
	return c
}

func TestAddresses(t *testing.T) {
	c := several().New()
	clustertest.Golden(t, "all", New(c, "").Text, false)
	clustertest.Golden(t, "all wide", New(c, "").Text, true)
	clustertest.Golden(t, "one namespace", New(c, "blog").Text, false)
	clustertest.Golden(t, "none", New(c, "nowhere").Text, false)
}

func TestSort(t *testing.T) {
	const a7, a100, a101, a102, a130, b3 = "172.30.0.7", "172.30.0.100", "172.30.0.101", "172.30.0.102", "172.30.0.130", "198.51.100.3"
	for by, want := range map[string][]string{
		"address": {a7, a100, a101, a102, a130, b3},
		"service": {a130, b3, a102, a101, a7, a100},
		"pool":    {b3, a7, a100, a101, a102, a130},
		"node":    {a101, a130, a7, a100, a102, b3},
		"since":   {a101, a7, a100, a102, a130, b3},
		"moved":   {a102, a7, a100, b3, a101, a130},
	} {
		r := New(several().New(), "")
		if err := r.Sort(by); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, row := range r.Addresses {
			got = append(got, row.Address.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("by %s it is %v, want %v", by, got, want)
		}
	}
	if err := new(Report).Sort("colour"); err == nil || !strings.Contains(err.Error(), "address, service") {
		t.Errorf("got %v, want the columns that there are", err)
	}
	for _, c := range columns {
		if orders[c] == nil {
			t.Errorf("%s is offered, and there is no such order", c)
		}
	}
}
