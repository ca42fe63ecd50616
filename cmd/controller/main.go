// Command controller assigns addresses to LoadBalancer Services.
package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/cmd/internal/program"
	"github.com/fairlead-lb/fairlead/internal/controller/advertisementstatus"
	"github.com/fairlead-lb/fairlead/internal/controller/assign"
	"github.com/fairlead-lb/fairlead/internal/controller/blocked"
	"github.com/fairlead-lb/fairlead/internal/controller/claims"
	"github.com/fairlead-lb/fairlead/internal/controller/eventqueue"
	"github.com/fairlead-lb/fairlead/internal/controller/gossipkey"
	"github.com/fairlead-lb/fairlead/internal/controller/ledger"
	"github.com/fairlead-lb/fairlead/internal/controller/peerstatus"
	"github.com/fairlead-lb/fairlead/internal/controller/poolstatus"
	"github.com/fairlead-lb/fairlead/internal/controller/servicestatus"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/metrics"
	"github.com/fairlead-lb/fairlead/internal/version"
)

// Parameters of the leader election. A standby takes over within leaseDuration after the
// active controller fails, and immediately after it stops, as it releases the lease.
const (
	leaseDuration = 8 * time.Second
	renewDeadline = 5 * time.Second
	retryPeriod   = time.Second
)

// gcPercent is the value of GOGC. Most of the heap is the cache of the cluster's Services,
// which is long-lived: Go's default of 100 would double the memory and save little work.
const gcPercent = 50

// options are the command-line options.
type options struct {
	program.Options
	leaderElect bool
}

func parse(args []string, errs io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("controller", flag.ContinueOnError)
	f.SetOutput(errs)
	o.Register(f, "the lease and the gossip key", 7472, 7473)
	f.BoolVar(&o.leaderElect, "leader-elect", true, "enable leader election: of several controllers one is active, the others are standby")
	return o, f.Parse(args)
}

func main() { program.Main("controller", run) }

func run(ctx context.Context, args []string, errs io.Writer) error {
	o, err := parse(args, errs)
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	mgr, err := o.Manager("fairlead-controller", errs, func(api *rest.Config, c *ctrl.Options) (err error) {
		c.Cache.ByObject = map[client.Object]cache.ByObject{
			&corev1.Namespace{}: {UnsafeDisableDeepCopy: ptr.To(true)}, // read-only use, once per Service
		}
		c.LeaderElection = o.leaderElect
		c.LeaderElectionID = leaseName // the name of the lease in metrics
		c.LeaderElectionReleaseOnCancel = true
		c.LeaseDuration, c.RenewDeadline, c.RetryPeriod = ptr.To(leaseDuration), ptr.To(renewDeadline), ptr.To(retryPeriod)
		if o.leaderElect {
			c.LeaderElectionResourceLockInterface, err = lease(api, o.Namespace)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, c := range controllers(mgr, o, metrics.NewController(ctrlmetrics.Registry)) {
		if err := c.Register(mgr); err != nil {
			return fmt.Errorf("set up %s: %w", c.Name(), err)
		}
	}
	if err := mgr.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	go func() {
		<-mgr.Elected()
		mgr.Log.Info("this controller is active", "version", version.String())
	}()
	err = mgr.Start(ctx)
	if err != nil && err.Error() == leadershipLost && ctx.Err() == nil {
		mgr.Log.Info("renewing the leader election lease failed; restarting as a standby")
		return program.ErrRestart
	}
	return err
}

// leaseName is the name of the Lease that the active controller holds.
const leaseName = "fairlead-controller"

// leadershipLost is the text of the error of a manager that could not renew its lease;
// controller-runtime exports no value for it.
const leadershipLost = "leader election lost"

// identityVariable passes the lease holder's identity to a controller that restarts in place.
// As the identity is unique, the controller can renew its former lease without waiting until
// it has expired.
const identityVariable = "FAIRLEAD_LEASE_IDENTITY"

// lease returns the lease of the active controller.
func lease(api *rest.Config, namespace string) (resourcelock.Interface, error) {
	identity := os.Getenv(identityVariable)
	if identity == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, err
		}
		identity = host + "_" + rand.Text()
		if err := os.Setenv(identityVariable, identity); err != nil {
			return nil, err
		}
	}
	return resourcelock.NewFromKubeconfig(resourcelock.LeasesResourceLock, namespace, leaseName,
		resourcelock.ResourceLockConfig{Identity: identity}, api, renewDeadline)
}

// controller is one of the controllers that the program runs.
type controller interface {
	Name() string
	Register(ctrl.Manager) error
}

// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=fairlead-system,resources=leases,verbs=create
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=fairlead-system,resources=leases,resourceNames=fairlead-controller,verbs=get;update

// controllers returns all controllers.
func controllers(mgr ctrl.Manager, o options, m *metrics.Controller) []controller {
	book := ledger.New(mgr.GetAPIReader(), o.Class, time.Now)
	events := eventqueue.New(mgr.GetEventRecorder("fairlead-controller"), mgr.GetScheme(), book.WaitForBurst)
	reports := servicestatus.New(mgr.GetClient(), book, o.Class, events, time.Now)
	m.Read(func() metrics.State { return state(mgr.GetClient(), book, reports) })
	return []controller{
		events,
		gossipkey.New(mgr.GetClient(), o.Namespace),
		poolstatus.New(mgr.GetClient(), book, events, time.Now),
		blocked.New(mgr.GetClient(), book),
		assign.New(mgr.GetClient(), mgr.GetAPIReader(), book, o.Class, events, m),
		claims.New(mgr.GetClient(), book, time.Now),
		advertisementstatus.New(mgr.GetClient()),
		peerstatus.New(mgr.GetClient(), time.Now),
		reports,
	}
}

// state returns the values of the metrics. A standby has an empty ledger and returns nothing.
func state(c client.Client, book *ledger.Ledger, reports *servicestatus.Controller) metrics.State {
	census := book.Census()
	var s metrics.State
	for name, u := range census.Pools {
		for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
			if total := float64(u.Assigned[f]) + float64(u.Available[f]); total > 0 {
				s.Pools = append(s.Pools, metrics.Pool{Name: name, Family: f.String(), Assigned: float64(u.Assigned[f]), Available: float64(u.Available[f])})
			}
		}
	}
	for lack, n := range census.Waiting {
		s.Waiting = append(s.Waiting, metrics.Why{Kind: lack.Kind.String(), Reason: lack.Reason.String(), Count: n})
	}
	for why, n := range reports.Unannounced() {
		s.Silent = append(s.Silent, metrics.Why{Reason: why.String(), Count: n})
	}
	var speakers v1alpha1.SpeakerList
	if len(census.Pools) > 0 && c.List(context.Background(), &speakers, client.UnsafeDisableDeepCopy) == nil {
		s.Speakers = len(speakers.Items)
	}
	return s
}
