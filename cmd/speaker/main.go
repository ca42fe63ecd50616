// Command speaker announces, from one node, the addresses that the node owns.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/fairlead-lb/fairlead/cmd/internal/program"
	"github.com/fairlead-lb/fairlead/internal/bfd"
	"github.com/fairlead-lb/fairlead/internal/clockcheck"
	"github.com/fairlead-lb/fairlead/internal/config"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/members"
	"github.com/fairlead-lb/fairlead/internal/metrics"
	"github.com/fairlead-lb/fairlead/internal/retry"
	"github.com/fairlead-lb/fairlead/internal/routing"
	"github.com/fairlead-lb/fairlead/internal/speaker"
	"github.com/fairlead-lb/fairlead/internal/version"
)

// gcPercent is the value of GOGC. Most of the heap is data about the cluster's Services, which
// is long-lived: Go's default of 100 would double the memory on every node and save little
// work.
const gcPercent = 25

// options are the command-line options.
type options struct {
	program.Options
	node         string
	gossip       string
	gossipFamily string
	gossipPort   uint
	failover     members.Failover
	routing      routing.Config
}

// maxDrainWait leaves time for the rest of the shutdown within a pod's default termination
// grace period of 30 s.
const maxDrainWait = 20 * time.Second

// serveBFD is the argument with which the speaker starts itself as a process that runs only
// BFD.
const serveBFD = "bfd"

func parse(args []string, errs io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("speaker", flag.ContinueOnError)
	f.SetOutput(errs)
	o.Register(f, "the gossip key", 7474, 7475)
	f.StringVar(&o.node, "node-name", os.Getenv("NODE_NAME"), "`name` of the Node on which this speaker runs; default $NODE_NAME")
	f.StringVar(&o.gossip, "gossip-bind-address", "", "`address` for the gossip with other speakers; default an InternalIP of the Node")
	f.StringVar(&o.gossipFamily, "gossip-ip-family", "IPv4", "`family` of the InternalIP for the gossip, IPv4 or IPv6; set the same on all nodes. A Node\n"+
		"without an InternalIP of this family uses one of the other family")
	f.UintVar(&o.gossipPort, "gossip-port", 7946, "UDP and TCP `port` for the gossip with other speakers")
	o.failover = members.FailoverDefault
	f.Var(&o.failover, "failover", "failure detection time: `PACE` is fast (about 0.2 s), default (0.4 s) or relaxed (3 s, for networks\n"+
		"that lose packets); set the same on all nodes")
	f.DurationVar(&o.routing.DrainWait, "bgp-drain-wait", 3*time.Second, "time between advertising routes with GRACEFUL_SHUTDOWN (RFC 8326) and withdrawing them, when a\n"+
		"node is cordoned or drained or its speaker shuts down; at most 20s")
	var bgpPort uint
	f.UintVar(&bgpPort, "bgp-listen-port", 179, "TCP `port` to which the routers of passive BGPPeers connect; unused unless a BGPPeer is passive")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case o.node == "":
		return o, errors.New("--node-name: set it to the name of the Node on which this speaker runs, or set $NODE_NAME")
	case o.gossipPort == 0 || o.gossipPort > 65535:
		return o, fmt.Errorf("--gossip-port: %d is not a port; use 1 to 65535", o.gossipPort)
	case o.gossipFamily != lb.IPv4.String() && o.gossipFamily != lb.IPv6.String():
		return o, fmt.Errorf("--gossip-ip-family: %q is not an IP family; use IPv4 or IPv6", o.gossipFamily)
	case bgpPort == 0 || bgpPort > 65535:
		return o, fmt.Errorf("--bgp-listen-port: %d is not a port; use 1 to 65535", bgpPort)
	case o.routing.DrainWait < 0 || o.routing.DrainWait > maxDrainWait:
		return o, fmt.Errorf("--bgp-drain-wait: %v is out of range; use 0s to %v", o.routing.DrainWait, maxDrainWait)
	}
	o.routing.ListenPort = uint16(bgpPort)
	return o, nil
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == serveBFD {
		if err := bfd.Serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintf(os.Stderr, "speaker %s: %v\n", serveBFD, err)
			os.Exit(1)
		}
		return
	}
	program.Main("speaker", run)
}

func run(ctx context.Context, args []string, errs io.Writer) error {
	o, err := parse(args, errs)
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	clock := clockcheck.New()
	o.Wrap = clock.Wrap
	mgr, err := o.Manager("fairlead-speaker", errs)
	if err != nil {
		return err
	}
	api, err := client.NewWithWatch(mgr.GetConfig(), client.Options{HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper()})
	if err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	var bind netip.Addr
	if o.gossip != "" {
		if bind, err = config.Address(o.gossip); err != nil {
			return fmt.Errorf("--gossip-bind-address: %w", err)
		}
	}
	family := lb.IPv4
	if o.gossipFamily == lb.IPv6.String() {
		family = lb.IPv6
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the path of this program, which runs BFD too: %w", err)
	}
	o.routing.BFD = []string{self, serveBFD}
	cfg := speaker.Config{
		Node: o.node, Bind: bind, Follow: o.gossip == "", Family: family, Port: uint16(o.gossipPort), Version: version.String(), Class: o.Class, Failover: o.failover, Routing: o.routing,
		Metrics:   metrics.NewSpeaker(ctrlmetrics.Registry),
		Clock:     clock,
		Namespace: o.Namespace, API: api, Conn: mgr.Conn, Log: mgr.Log,
	}
	var running atomic.Pointer[speaker.Speaker]
	announcer := manager.RunnableFunc(func(ctx context.Context) (err error) {
		// These calls wait for the API server. They run here so that the probes are answered
		// meanwhile.
		if cfg.Follow {
			if cfg.Bind, err = speaker.AwaitAddress(ctx, cfg); err != nil {
				return ignoreCanceled(ctx, err)
			}
		}
		if cfg.Keys, cfg.Term, err = gossipKeys(ctx, api, o.Namespace, mgr.Log); err != nil {
			return err
		}
		a := speaker.New(cfg, speaker.NewDeps(cfg))
		running.Store(a)
		return a.Start(ctx)
	})
	joined := func(*http.Request) error {
		if a := running.Load(); a == nil || !a.Joined() {
			return errors.New("the speaker has not joined the other speakers yet")
		}
		return nil
	}
	clockRequests, err := clockRequester(mgr)
	if err != nil {
		return err
	}
	if err := cmp.Or(mgr.Add(announcer), mgr.Add(clockRequests), mgr.AddReadyzCheck("joined", joined)); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	if err = mgr.Start(ctx); errors.Is(err, speaker.ErrAddressChanged) {
		mgr.Log.Info("restarting to use another address for the gossip", "cause", err.Error())
		return program.ErrRestart
	}
	return err
}

// ignoreCanceled returns no error if ctx has ended, as it does when the program shuts down.
func ignoreCanceled(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// clockRequester returns a runnable that requests the API server's version at intervals, so
// that clockcheck can read the date of the response. Every account may read the version, and
// it is cheap to serve.
func clockRequester(mgr manager.Manager) (manager.RunnableFunc, error) {
	api, err := discovery.NewDiscoveryClientForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return nil, fmt.Errorf("set up: %w", err)
	}
	return func(ctx context.Context) error {
		clockcheck.KeepAsking(ctx, func(ctx context.Context) { api.RESTClient().Get().AbsPath("/version").Do(ctx) })
		return nil
	}, nil
}

// +kubebuilder:rbac:groups="",namespace=fairlead-system,resources=secrets,resourceNames=fairlead-gossip,verbs=get

// gossipKeys waits for the Secret with the keys, which the controller creates.
func gossipKeys(ctx context.Context, api client.Reader, namespace string, log logr.Logger) (keys [][]byte, term uint64, err error) {
	err = retry.Until(ctx, time.Second, func(ctx context.Context) (err error) {
		keys, term, err = kube.ReadGossip(ctx, api, namespace)
		return err
	}, func(err error) {
		log.Info("waiting for the gossip key, which the controller creates", "cause", err.Error())
	})
	return keys, term, err
}
