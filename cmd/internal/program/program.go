// Package program is what Fairlead's programs have in common: flags, logs, and
// the manager that runs their parts.
package program

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/config"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/kube/apiconn"
	"github.com/fairlead-lb/fairlead/internal/version"
)

// cacheSyncTimeout is how long caches may take to be filled at the start: as long as the
// API server is away. controller-runtime's two minutes would end the program.
const cacheSyncTimeout = 365 * 24 * time.Hour

// Options are the flags that every program has.
type Options struct {
	Kubeconfig string
	Namespace  string // of the install
	Class      kube.Class
	Wrap       func(http.RoundTripper) http.RoundTripper // of the connections to the API server, or nil
	metrics    string
	probes     string
	logLevel   string
}

// Register defines the flags. use is what the namespace is used for; metrics and
// probes are default ports, which differ between programs, as they share hosts.
func (o *Options) Register(f *flag.FlagSet, use string, metrics, probes int) {
	f.StringVar(&o.Kubeconfig, "kubeconfig", "", "`file` that says how to reach the API server; in a pod not needed")
	f.StringVar(&o.Namespace, "namespace", "fairlead-system", "`namespace` of this install: of "+use)
	f.StringVar(&o.Class.Name, "load-balancer-class", v1alpha1.LoadBalancerClass, "the spec.loadBalancerClass that is ours")
	f.BoolVar(&o.Class.Classless, "handle-classless", true, "Services without a class are ours too")
	f.StringVar(&o.metrics, "metrics-bind-address", fmt.Sprintf(":%d", metrics), "`address` for metrics; 0 for none")
	f.StringVar(&o.probes, "health-probe-bind-address", fmt.Sprintf(":%d", probes), "`address` for /healthz and /readyz; 0 for none")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
}

// Manager is a manager with what belongs to it.
type Manager struct {
	ctrl.Manager
	Conn *apiconn.Conn // to the API server
	Log  logr.Logger   // the program's own
}

// Manager sets up the logs, and returns a manager that talks to the API server, with more
// set of its options. It makes no request before it is started.
func (o *Options) Manager(name string, logs io.Writer, more ...func(*rest.Config, *ctrl.Options) error) (*Manager, error) {
	own, libraries, err := config.Loggers(logs, o.logLevel)
	if err != nil {
		return nil, err
	}
	m := &Manager{Log: logr.FromSlogHandler(own)}
	m.Conn = apiconn.New(m.Log.WithName("api"))
	if err := checkConnections(); err != nil {
		return nil, err
	}
	ctrl.SetLogger(logr.FromSlogHandler(libraries))
	klog.SetLogger(logr.FromSlogHandler(libraries).WithName("client-go"))
	cfg, err := kube.RESTConfig(o.Kubeconfig, name+"/"+version.String())
	if err != nil {
		return nil, err
	}
	cfg.Wrap(o.Wrap)
	cfg.Wrap(m.Conn.Wrap) // around the other, which measures how long an answer takes
	options := ctrl.Options{
		Scheme:                 kube.NewScheme(),
		MapperProvider:         kube.RESTMapper,
		Cache:                  cache.Options{DefaultTransform: cache.TransformStripManagedFields(), NewInformer: m.newInformer},
		Controller:             ctrlconfig.Controller{CacheSyncTimeout: cacheSyncTimeout},
		Metrics:                server.Options{BindAddress: o.metrics},
		HealthProbeBindAddress: o.probes,
	}
	for _, set := range more {
		err = errors.Join(err, set(cfg, &options))
	}
	if err == nil {
		m.Manager, err = ctrl.NewManager(cfg, options)
	}
	if err == nil {
		err = m.AddHealthzCheck("ping", healthz.Ping)
	}
	if err != nil {
		return nil, fmt.Errorf("set up: %w", err)
	}
	return m, nil
}

// newInformer returns an informer that reads soon after the API server is back.
func (m *Manager) newInformer(lw toolscache.ListerWatcher, o runtime.Object, resync time.Duration, by toolscache.Indexers) toolscache.SharedIndexInformer {
	return toolscache.NewSharedIndexInformer(m.Conn.ListerWatcher(lw), o, resync, by)
}

// Start runs the manager until ctx ends.
func (m *Manager) Start(ctx context.Context) error {
	api, err := discovery.NewDiscoveryClientForConfigAndClient(m.GetConfig(), m.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx)) // what is said at the end needs it, too
	var probing sync.WaitGroup
	probing.Go(func() {
		m.Conn.Run(watching, func(ctx context.Context) error { return probe(ctx, api.RESTClient()) })
	})
	err = m.Manager.Start(ctx)
	stop()
	probing.Wait()
	return err
}

// probe returns nil when the API server answers, be it that it refuses. It does not limit
// how many such requests it takes. An API server without etcd still serves watches.
func probe(ctx context.Context, api rest.Interface) error {
	var status int
	err := api.Get().AbsPath("/livez").Param("exclude", "etcd").MaxRetries(0).Do(ctx).StatusCode(&status).Error()
	switch status {
	case 0, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout: // none, or a load balancer's
		return cmp.Or(err, errNoAnswer)
	default:
		return nil
	}
}

var errNoAnswer = errors.New("the API server did not answer")

// checkConnections has client-go send a ping by a connection to the API server on which
// nothing came for three seconds, and give the connection up four seconds later. Its own
// values, 30 s and 15 s, leave watches on dead connections for up to 45 s. A ping is not a
// request: it costs the API server next to nothing.
func checkConnections() error {
	for name, seconds := range map[string]string{"HTTP2_READ_IDLE_TIMEOUT_SECONDS": "3", "HTTP2_PING_TIMEOUT_SECONDS": "4"} {
		if os.Getenv(name) != "" {
			continue
		}
		if err := os.Setenv(name, seconds); err != nil {
			return fmt.Errorf("set up: %w", err)
		}
	}
	return nil
}

// ErrStartAgain is returned by a program that Main is to start again. If it ended instead,
// kubelet would start it, each time after a longer pause: of up to five minutes after
// some absences of the API server.
var ErrStartAgain = errors.New("starting again")

// startAgain starts this program in place of itself. It returns only if it cannot.
func startAgain() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start again: %w", err)
	}
	if err := syscall.Exec(self, os.Args, os.Environ()); err != nil { //nolint:gosec // this very program
		return fmt.Errorf("start again: %w", err)
	}
	return nil
}

// Main runs a program until SIGINT or SIGTERM, and ends the process with status 1
// if it fails.
func Main(name string, run func(ctx context.Context, args []string, errs io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if errors.Is(err, ErrStartAgain) {
		err = startAgain()
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
