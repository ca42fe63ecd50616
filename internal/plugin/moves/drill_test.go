package moves

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plugin/cli"
	"github.com/fairlead-lb/fairlead/internal/plugin/clustertest"
	"github.com/fairlead-lb/fairlead/internal/plugin/reach"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
)

var web = lb.ServiceKey{Namespace: "shop", Name: "web"}

func TestRehearse(t *testing.T) {
	for name, c := range map[string]struct {
		change func(c *clustertest.Cluster)
		port   uint16
		err    string
	}{
		"others can": {func(*clustertest.Cluster) {}, 80, ""},
		"UDP before TCP": {func(c *clustertest.Cluster) {
			c.Service("shop", "web").Spec.Ports = []corev1.ServicePort{{Port: 53, Protocol: corev1.ProtocolUDP}, {Port: 443}}
		}, 443, ""},
		"UDP only": {func(c *clustertest.Cluster) {
			c.Service("shop", "web").Spec.Ports[0].Protocol = corev1.ProtocolUDP
		}, 0, ""},
		"nobody else can": {func(c *clustertest.Cluster) {
			c.Speaker("n2").Status.Interfaces[0].Up = false
			c.Speaker("n3").Status.Conditions = clustertest.Ready(false, v1alpha1.ReasonStopping, "the speaker has stopped")
		}, 0, "no other node than n1 can announce 172.30.0.100: n2 has an interface for the address, but it is down, n3 its speaker is not alive"},
		"not announced":   {func(c *clustertest.Cluster) { c.Announce("", "172.30.0.100") }, 0, "no address of Service shop/web is announced by layer 2"},
		"no such Service": {func(c *clustertest.Cluster) { c.Services = nil }, 0, "there is no Service shop/web; name its namespace by -n"},
	} {
		t.Run(name, func(t *testing.T) {
			objects := clustertest.Small()
			c.change(objects)
			d, err := rehearse(objects.New(), web)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v, want %q", err, c.err)
				}
				return
			}
			if err != nil || len(d.plan.Moves) != 1 || d.plan.Moves[0].From != "n1" || d.plan.Moves[0].To == "n1" || d.at.Port() != c.port {
				t.Errorf("got %+v, %v, want a move from n1 and port %d", d, err, c.port)
			}
		})
	}
}

// obedient are speakers that do as they are told, after a time in which nobody
// announces the address, if there is one.
type obedient struct {
	client.Client
	outage  time.Duration
	refuses bool

	mu       sync.Mutex // guards the fields below
	lostFrom time.Time
	lostTill time.Time
}

const takes = 300 * time.Millisecond

func newObedient(objects *clustertest.Cluster) *obedient {
	s := &obedient{}
	b := fake.NewClientBuilder().WithScheme(kube.NewScheme())
	for i := range objects.Speakers {
		b = b.WithObjects(&objects.Speakers[i])
	}
	s.Client = b.WithInterceptorFuncs(interceptor.Funcs{Patch: s.patch}).Build()
	return s
}

func (s *obedient) patch(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
	if err := c.Patch(ctx, o, p, opts...); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lostFrom = time.Now().Add(reach.Every / 2) // not in the moment of an attempt
	s.lostTill = s.lostFrom.Add(s.outage)
	time.AfterFunc(takes, func() { s.obey(context.WithoutCancel(ctx), c, o.GetName()) })
	return nil
}

// obey has the speaker take the address, or say why not.
func (s *obedient) obey(ctx context.Context, c client.Client, node string) {
	var list v1alpha1.SpeakerList
	if c.List(ctx, &list) != nil {
		return // the test has ended
	}
	for i := range list.Items {
		sp := &list.Items[i]
		if !s.refuses {
			sp.Status.Layer2 = nil
		}
		if sp.Name == node {
			sp.Annotations = nil
			said := clustertest.Condition(v1alpha1.ConditionMoved, true, v1alpha1.ReasonMoved, "took over 172.30.0.100")
			if s.refuses {
				said = clustertest.Condition(v1alpha1.ConditionMoved, false, v1alpha1.ReasonRefused, "cannot take 172.30.0.100")
			} else {
				sp.Status.Layer2 = []v1alpha1.SpeakerAddress{{Address: "172.30.0.100", Interfaces: []string{"eth0"}, Since: metav1.Now()}}
			}
			sp.Status.Conditions = append(slices.Clone(sp.Status.Conditions), said)
		}
		_ = c.Update(ctx, sp)
	}
}

// DialContext is a client's connection to the address.
func (s *obedient) DialContext(context.Context, string, string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); !now.Before(s.lostFrom) && now.Before(s.lostTill) {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	return ours, theirs.Close()
}

func TestDrill(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*obedient)
		noPort bool
		back   bool
		legs   int // that were measured
		gap    string
		says   []string
		err    string
	}{
		"nothing is lost": {change: func(*obedient) {}, legs: 1, gap: "0s", says: []string{
			"172.30.0.100:80 takes connections from here; it is asked for one every 20ms", ", which comes next after n1, is to take over; one address moves:",
			"took over 172.30.0.100", "✓ from n1 to ", "connections were taken",
		}},
		"an outage": {change: func(s *obedient) { s.outage = 100 * time.Millisecond }, legs: 1, gap: "100ms", says: []string{
			"✗ from n1 to ", ", 5 of ", "connections were not taken; the longest time without was 100ms",
		}},
		"and back": {change: func(*obedient) {}, back: true, legs: 2, gap: "0s", says: []string{"is to take over and then to give back; one address moves:", "✓ from n1 to n", " to n1, all "}},
		"not reached": {change: func(s *obedient) { s.lostTill = time.Now().Add(time.Hour) }, says: []string{
			"It cannot be reached from here (connect to 172.30.0.100:80: connection refused)", "is announced by n", "after 0.4 s",
		}},
		"no TCP port": {change: func(*obedient) {}, noPort: true, says: []string{"The Service has no TCP port to connect to", "is announced by n"}},
		"refused":     {change: func(s *obedient) { s.refuses = true }, legs: 1, gap: "0s", err: "says: cannot take 172.30.0.100"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				objects := clustertest.Small()
				known := objects.New()
				d, err := rehearse(known, web)
				if err != nil {
					t.Fatal(err)
				}
				if c.noPort {
					d.at = netip.AddrPort{}
				}
				s := newObedient(objects)
				c.change(s)
				streams, _, _, _ := genericiooptions.NewTestIOStreams()
				var out bytes.Buffer
				r := &runner{o: cli.New(nil, streams), client: s, cluster: known, page: term.NewPage(&out), dialer: s, yes: true, timeout: time.Minute}
				err = r.drill(t.Context(), d, c.back)
				if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
					t.Errorf("got %v, want %q", err, c.err)
				}
				if len(r.result.Measured) != c.legs {
					t.Fatalf("%+v was measured, want %d moves", r.result.Measured, c.legs)
				}
				if c.legs > 0 && r.result.Measured[0].Gap != c.gap {
					t.Errorf("the gap is %s, want %s", r.result.Measured[0].Gap, c.gap)
				}
				for _, w := range c.says {
					if !strings.Contains(out.String(), w) {
						t.Errorf("it does not say %q:\n%s", w, out.String())
					}
				}
				synctest.Wait()
			})
		})
	}
}
