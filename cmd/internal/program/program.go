// Package program has the parts that Fairlead's programs share: flags, logs, and the manager
// that runs their controllers.
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

// cacheSyncTimeout is how long filling the caches may take at the start, which is as long as
// the API server is unavailable. controller-runtime's two minutes would end the program.
const cacheSyncTimeout = 365 * 24 * time.Hour

// Options are the flags of every program.
type Options struct {
	Kubeconfig string
	Namespace  string // of the installation
	Class      kube.Class
	Wrap       func(http.RoundTripper) http.RoundTripper // wraps the transport to the API server; may be nil
	metrics    string
	probes     string
	logLevel   string
}

// Register defines the flags. use says which objects are in the namespace. metrics and probes
// are default ports, which differ between the programs, as these run on the same hosts.
func (o *Options) Register(f *flag.FlagSet, use string, metrics, probes int) {
	f.StringVar(&o.Kubeconfig, "kubeconfig", "", "path of a kubeconfig `file`; not needed in a pod")
	f.StringVar(&o.Namespace, "namespace", "fairlead-system", "`namespace` of this installation, which contains "+use)
	f.StringVar(&o.Class.Name, "load-balancer-class", v1alpha1.LoadBalancerClass, "handle Services with this spec.loadBalancerClass")
	f.BoolVar(&o.Class.Classless, "handle-classless", true, "also handle Services without a spec.loadBalancerClass")
	f.StringVar(&o.metrics, "metrics-bind-address", fmt.Sprintf(":%d", metrics), "`address` that serves /metrics; 0 turns it off")
	f.StringVar(&o.probes, "health-probe-bind-address", fmt.Sprintf(":%d", probes), "`address` that serves /healthz and /readyz; 0 turns it off")
	f.StringVar(&o.logLevel, "log-level", "info", "lowest `level` of log messages: debug, info, warn or error")
}

// Manager is a controller-runtime manager with its connection to the API server and its log.
type Manager struct {
	ctrl.Manager
	Conn *apiconn.Conn // to the API server
	Log  logr.Logger   // the program's own
}

// Manager sets up the logs and returns a manager, after it applied more to the options. The
// manager sends no request to the API server before it is started.
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
	cfg.Wrap(m.Conn.Wrap) // the outer one: o.Wrap measures the time of each response
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

// newInformer returns an informer that lists and watches again as soon as the API server is
// back.
func (m *Manager) newInformer(lw toolscache.ListerWatcher, o runtime.Object, resync time.Duration, by toolscache.Indexers) toolscache.SharedIndexInformer {
	return toolscache.NewSharedIndexInformer(m.Conn.ListerWatcher(lw), o, resync, by)
}

// Start runs the manager until ctx ends.
func (m *Manager) Start(ctx context.Context) error {
	api, err := discovery.NewDiscoveryClientForConfigAndClient(m.GetConfig(), m.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx)) // the last writes during the shutdown need the connection too
	var probing sync.WaitGroup
	probing.Go(func() {
		m.Conn.Run(watching, func(ctx context.Context) error { return probe(ctx, api.RESTClient()) })
	})
	err = m.Manager.Start(ctx)
	stop()
	probing.Wait()
	return err
}

// probe returns nil if the API server responds, even with a refusal. The API server does not
// rate-limit requests to /livez. etcd is excluded, as an API server without it still serves
// watches.
func probe(ctx context.Context, api rest.Interface) error {
	var status int
	err := api.Get().AbsPath("/livez").Param("exclude", "etcd").MaxRetries(0).Do(ctx).StatusCode(&status).Error()
	switch status {
	case 0, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout: // no response, or one by a load balancer
		return cmp.Or(err, errNoAnswer)
	default:
		return nil
	}
}

var errNoAnswer = errors.New("the API server did not respond")

// checkConnections makes client-go send an HTTP/2 ping on a connection to the API server on
// which nothing was received for three seconds, and close the connection if there is no reply
// after four more. With its defaults, 30 s and 15 s, watches stay on dead connections for up
// to 45 s. A ping costs the API server next to nothing.
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

// ErrRestart is returned by a program that Main must restart in place. If the program exited
// instead, kubelet would restart it with an increasing back-off, of up to five minutes after
// some outages of the API server.
var ErrRestart = errors.New("restarting")

// restart replaces this process by a new one of the same program. It returns only on failure.
func restart() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	if err := syscall.Exec(self, os.Args, os.Environ()); err != nil { //nolint:gosec // this program's own path
		return fmt.Errorf("restart: %w", err)
	}
	return nil
}

// Main runs a program until SIGINT or SIGTERM, and exits with status 1 if the program fails.
func Main(name string, run func(ctx context.Context, args []string, errs io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if errors.Is(err, ErrRestart) {
		err = restart()
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
