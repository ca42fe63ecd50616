package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/test/lab"
)

const (
	// apiAway is longer than client-go needs to notice a dead connection, and long
	// enough for its back-off to reach half a minute.
	apiAway = 45 * time.Second
	// afterReturn is how soon new Services must be announced once the API server is back (X1).
	afterReturn = 3 * time.Second
	// newServices is enough that every node has some to announce.
	newServices = 9
)

// absence is a way in which the API server can be away.
type absence struct {
	name       string
	begin, end func(t *testing.T, c *corner) error
}

var absences = []absence{
	{
		"killed", func(_ *testing.T, c *corner) error { return c.KillAPI() },
		func(t *testing.T, c *corner) error { return c.StartAPI(t.Context()) },
	},
	{
		"frozen", func(_ *testing.T, c *corner) error { return c.FreezeAPI() },
		func(_ *testing.T, c *corner) error { return c.ThawAPI() },
	},
	{
		"packets dropped", func(_ *testing.T, c *corner) error { return c.Partition([]string{c.ControlPlane.Name}, nodeNames(c)) },
		func(_ *testing.T, c *corner) error { return c.Heal() },
	},
}

func nodeNames(c *corner) (names []string) {
	for _, n := range c.Nodes {
		names = append(names, n.Name)
	}
	return names
}

// When the API server is back, speakers and controller take up news within three
// seconds, however it was away.
func TestAPIServerReturns(t *testing.T) {
	for _, a := range absences {
		t.Run(a.name, func(t *testing.T) { a.test(t) })
	}
}

func (a absence) test(t *testing.T) {
	c := cluster.corner(t)
	c.apply(t, layer2)
	w, err := c.Observer.WatchClaims()
	must(t, err)
	t.Cleanup(w.Stop)
	must(t, a.begin(t, c))
	time.Sleep(apiAway) // the absence itself, not a wait for something
	must(t, a.end(t, c))
	returned := time.Now()
	if p := c.Process("controller"); p.Signal(0) != nil {
		t.Fatal("the controller ended because the API server was away; kubelet would start it only after a pause")
	}

	services := make([]*corev1.Service, newServices)
	for i := range services {
		services[i] = c.newService(fmt.Sprintf("new-%d", i))
		lab.Eventually(t, soon, func() error { return c.api.Create(t.Context(), services[i]) })
		t.Cleanup(func() { c.remove(t, services[i]) })
		lab.Eventually(t, soon, func() error { return c.api.Create(t.Context(), endpointOf(services[i])) })
	}
	var assigned, announced []time.Duration
	byNode := map[string][]time.Duration{}
	for _, svc := range services {
		ip := c.awaitAddress(t, svc)
		assigned = append(assigned, time.Since(returned))
		change := awaitClaim(t, w, ip, returned)
		after := change.At.Sub(returned)
		announced = append(announced, after)
		byNode[change.Node] = append(byNode[change.Node], after)
	}
	slices.Sort(announced)
	t.Logf("assigned by %v; announced after %v to %v, median %v; by node: %v", slices.Max(assigned),
		announced[0], slices.Max(announced), announced[len(announced)/2], byNode)
	if worst := slices.Max(announced); worst > afterReturn {
		t.Errorf("a new Service was announced only %v after the API server was back, want at most %v", worst, afterReturn)
	}
}

// endpointOf returns a ready endpoint of the Service, without which nobody announces it.
func endpointOf(svc *corev1.Service) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name, Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.244.1.99"}, NodeName: ptr.To("n1"), Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}}},
	}
}

// awaitAddress waits for as long as a broken speaker or controller would need.
func (c *corner) awaitAddress(t *testing.T, svc *corev1.Service) (ip netip.Addr) {
	t.Helper()
	lab.Eventually(t, 2*time.Minute, func() error {
		if err := c.api.Get(t.Context(), client.ObjectKeyFromObject(svc), svc); err != nil {
			return err
		}
		if len(ingress(svc)) == 0 {
			return fmt.Errorf("Service %s has no address", svc.Name)
		}
		ip = ingress(svc)[0]
		return nil
	})
	return ip
}

func awaitClaim(t *testing.T, w *lab.ClaimWatch, ip netip.Addr, since time.Time) (change lab.Change) {
	t.Helper()
	lab.Eventually(t, 2*time.Minute, func() error {
		var ok bool
		if change, ok = w.Since(since)[ip]; !ok {
			return fmt.Errorf("nobody announces %s", ip)
		}
		return nil
	})
	return change
}
