// Command controller gives LoadBalancer Services their addresses.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/controller/allocate"
	"github.com/fairlead/fairlead/internal/controller/gossipkey"
	"github.com/fairlead/fairlead/internal/controller/ledger"
	"github.com/fairlead/fairlead/internal/controller/poolstatus"
	"github.com/fairlead/fairlead/internal/controller/references"
	"github.com/fairlead/fairlead/internal/controller/report"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/version"
)

// Terms of the leader's lease. A leader that died is replaced within
// leaseDuration; one that stops gives the lease up at once.
const (
	leaseDuration = 8 * time.Second
	renewDeadline = 5 * time.Second
	retryPeriod   = time.Second
)

// options are the command line.
type options struct {
	kubeconfig  string
	namespace   string
	leaderElect bool
	class       kube.Class
	metrics     string
	probes      string
	logLevel    string
}

func parse(args []string, errs io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("controller", flag.ContinueOnError)
	f.SetOutput(errs)
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "`file` that says how to reach the API server; in a pod not needed")
	f.StringVar(&o.namespace, "namespace", "fairlead-system", "`namespace` of this install: of the lease and the gossip key")
	f.BoolVar(&o.leaderElect, "leader-elect", true, "take turns with other controllers")
	f.StringVar(&o.class.Name, "load-balancer-class", v1alpha1.LoadBalancerClass, "the spec.loadBalancerClass that is ours")
	f.BoolVar(&o.class.Classless, "handle-classless", true, "Services without a class are ours too")
	f.StringVar(&o.metrics, "metrics-bind-address", ":7472", "`address` for metrics; 0 for none")
	f.StringVar(&o.probes, "health-probe-bind-address", ":7473", "`address` for /healthz and /readyz; 0 for none")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	return o, f.Parse(args)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "controller:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, errs io.Writer) error {
	o, err := parse(args, errs)
	if err != nil {
		return err
	}
	own, libraries, err := config.Loggers(errs, o.logLevel)
	if err != nil {
		return err
	}
	ctrl.SetLogger(logr.FromSlogHandler(libraries))
	klog.SetLogger(logr.FromSlogHandler(libraries).WithName("client-go"))
	cfg, err := kube.RESTConfig(o.kubeconfig, "fairlead-controller/"+version.String())
	if err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme:                        kube.NewScheme(),
		Cache:                         cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
		Metrics:                       server.Options{BindAddress: o.metrics},
		HealthProbeBindAddress:        o.probes,
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              "fairlead-controller",
		LeaderElectionNamespace:       o.namespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 ptr.To(leaseDuration),
		RenewDeadline:                 ptr.To(renewDeadline),
		RetryPeriod:                   ptr.To(retryPeriod),
	})
	if err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	for _, c := range controllers(mgr, o) {
		if err := c.Register(mgr); err != nil {
			return fmt.Errorf("set up %s: %w", c.Name(), err)
		}
	}
	if err := errors.Join(mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("ping", healthz.Ping)); err != nil {
		return fmt.Errorf("set up probes: %w", err)
	}
	log := logr.FromSlogHandler(own)
	go func() {
		<-mgr.Elected()
		log.Info("leading", "version", version.String())
	}()
	return mgr.Start(ctx)
}

// controller is one verb of the controller's work.
type controller interface {
	Name() string
	Register(ctrl.Manager) error
}

// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=fairlead-system,resources=leases,verbs=create
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=fairlead-system,resources=leases,resourceNames=fairlead-controller,verbs=get;update
// +kubebuilder:rbac:groups="",namespace=fairlead-system,resources=events,verbs=create;patch

// controllers lists all there are.
func controllers(mgr ctrl.Manager, o options) []controller {
	book := ledger.New(mgr.GetAPIReader(), o.class, time.Now)
	return []controller{
		gossipkey.New(mgr.GetClient(), o.namespace),
		poolstatus.New(mgr.GetClient(), book, time.Now),
		allocate.New(mgr.GetClient(), book, o.class, mgr.GetEventRecorder("fairlead-controller")),
		references.New(mgr.GetClient()),
		report.New(mgr.GetClient(), o.class, time.Now),
	}
}
