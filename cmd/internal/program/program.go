// Package program is what Fairlead's programs have in common: flags, logs, and
// the manager that runs their parts.
package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/version"
)

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

// Manager sets up the logs, and returns a manager that talks to the API server,
// with more set of its options, and the program's own logger.
func (o *Options) Manager(name string, logs io.Writer, more ...func(*ctrl.Options)) (ctrl.Manager, logr.Logger, error) {
	own, libraries, err := config.Loggers(logs, o.logLevel)
	if err != nil {
		return nil, logr.Logger{}, err
	}
	ctrl.SetLogger(logr.FromSlogHandler(libraries))
	klog.SetLogger(logr.FromSlogHandler(libraries).WithName("client-go"))
	cfg, err := kube.RESTConfig(o.Kubeconfig, name+"/"+version.String())
	if err != nil {
		return nil, logr.Logger{}, err
	}
	cfg.Wrap(o.Wrap)
	options := ctrl.Options{
		Scheme:                 kube.NewScheme(),
		Cache:                  cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
		Metrics:                server.Options{BindAddress: o.metrics},
		HealthProbeBindAddress: o.probes,
	}
	for _, set := range more {
		set(&options)
	}
	mgr, err := ctrl.NewManager(cfg, options)
	if err == nil {
		err = mgr.AddHealthzCheck("ping", healthz.Ping)
	}
	if err != nil {
		return nil, logr.Logger{}, fmt.Errorf("set up: %w", err)
	}
	return mgr, logr.FromSlogHandler(own), nil
}

// Main runs a program until SIGINT or SIGTERM, and ends the process with status 1
// if it fails.
func Main(name string, run func(ctx context.Context, args []string, errs io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
