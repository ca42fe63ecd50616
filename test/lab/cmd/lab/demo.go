package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// A demo's lab is told from others by a file, which says whether it is shown
// just now.
const (
	demoMark    = "demo"
	demoRunning = "running"
)

// showDemo shows Fairlead to somebody who has never seen it, in a lab that stays.
func showDemo(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("lab demo", flag.ContinueOnError)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if _, err := os.Stat(layer2File); err != nil {
		return fmt.Errorf("demo: run it in the top folder of the checkout: %w", err)
	}
	s := newStory(os.Stdout)
	if err := removeDemos(s); err != nil {
		return err
	}
	s.say("lab", "a cluster of three nodes, a router and two clients, in network namespaces")
	l, err := lab.Start(ctx, lab.Options{Nodes: 3, Keep: true, Log: func(format string, args ...any) {
		s.show(fmt.Sprintf(format, args...))
	}})
	if ctx.Err() != nil {
		s.say("stop", "interrupted; nothing is left of the lab")
		return errInterrupted
	}
	if err != nil {
		return err
	}
	mark := filepath.Join(l.Dir, demoMark)
	if err := os.WriteFile(mark, []byte(demoRunning), 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	defer func() { _ = os.Truncate(mark, 0) }() // it is gone if the lab is
	err = (&demo{story: s, lab: l}).play(ctx)
	switch {
	case ctx.Err() != nil:
		if err := l.Close(); err != nil {
			return err
		}
		s.say("stop", "interrupted; the lab is taken down")
		return errInterrupted
	case err != nil:
		s.say("failed", "lab %s is left as it is for you to look at. Logs are in\n%s/logs; `make lab-down` takes it down.", l.ID, l.Dir)
		return fmt.Errorf("demo: %w", err)
	}
	s.say("done", "the lab stays; look around, and take it down with `make lab-down`")
	fmt.Fprintf(s.out, demoHowTo, l.Dir)
	return nil
}

const demoHowTo = `
  export PATH=%[1]s/bin:$PATH   # for this shell
  kubectl get service web -o yaml             # status and conditions tell it all
  kubectl describe speaker n1                 # what a node announces, and since when
  client curl http://172.30.0.100             # on the LAN; far is behind the router
  n1 ip address                               # on a node: n1, n2, n3
  sw ip link set n1 down                      # pull n1's cable; up puts it back
  kubectl delete service web                  # the address is free again
  ls %[1]s/logs
`

// removeDemos takes down what earlier demos have left.
func removeDemos(s *story) error {
	labs, err := lab.List()
	if err != nil {
		return err
	}
	for _, l := range labs {
		mark, err := os.ReadFile(filepath.Join(l.Dir, demoMark))
		if err != nil {
			continue // somebody else's
		}
		if string(mark) == demoRunning && syscall.Kill(l.Owner, 0) == nil {
			return fmt.Errorf("demo: process %d is showing it already, in lab %s; wait for it, or type `make lab-down`", l.Owner, l.ID)
		}
		s.say("lab", "taking down %s, of the demo before this one", l.ID)
		if err := lab.Remove(l.ID); err != nil {
			return err
		}
	}
	return nil
}

// demo is what is shown, in a lab that has just come up.
type demo struct {
	*story
	lab *lab.Lab

	api      client.WithWatch
	backends []*lab.Backend
	ip       netip.Addr          // the Service's IPv4 address
	watch    *lab.NeighbourWatch // of ip
	owner    string              // the node that answers for ip
	lost     string              // the node whose cable is out
}

const (
	layer2File = "examples/layer2.yaml"
	webFile    = "examples/web.yaml"

	// patience is how long the demo waits for what should take a second.
	patience = 20 * time.Second
)

func (d *demo) play(ctx context.Context) error {
	defer func() {
		if d.watch != nil {
			d.watch.Stop()
		}
	}()
	for _, scene := range []func(context.Context) error{
		d.install, d.prepare, d.create, d.ask, d.failover, d.comeBack, d.upgrade,
	} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return nil
}

// install starts Fairlead.
func (d *demo) install(ctx context.Context) error {
	d.say("start", "Fairlead: a controller, and a speaker on each node (built first if need be)")
	if err := d.lab.Install(ctx); err != nil {
		return err
	}
	if err := d.lab.StartFairlead(ctx); err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	err := errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme))
	if err != nil {
		return err
	}
	d.api, err = client.NewWithWatch(d.lab.REST(lab.Admin), client.Options{Scheme: scheme})
	return err
}

// prepare is what an admin does once, and what a Deployment would do.
func (d *demo) prepare(ctx context.Context) error {
	if err := d.typed(ctx, "apply", "kubectl apply -f "+layer2File); err != nil {
		return err
	}
	d.say("add", "web-1 on n1 and web-2 on n2, which answer HTTP on port 8080, as pods would")
	name, protocol, port := "http", corev1.ProtocolTCP, int32(8080)
	for i, node := range []string{"n1", "n2"} {
		b, err := d.lab.AddBackend(ctx, lab.BackendSpec{
			Service: "web", Name: fmt.Sprintf("web-%d", i+1), Node: node,
			Ports: []discoveryv1.EndpointPort{{Name: &name, Protocol: &protocol, Port: &port}},
		})
		if err != nil {
			return err
		}
		d.backends = append(d.backends, b)
	}
	return nil
}

// create makes the Service and measures until it can be reached.
func (d *demo) create(ctx context.Context) error {
	services, err := d.api.Watch(ctx, &corev1.ServiceList{}, client.InNamespace("default"))
	if err != nil {
		return err
	}
	defer services.Stop()
	created := make(chan creation, 1)
	go func() { created <- d.follow(services) }()
	if err := d.typed(ctx, "apply", "kubectl apply -f "+webFile); err != nil {
		return err
	}
	var c creation
	select {
	case c = <-created:
	case <-time.After(patience):
		return errors.New("the Service has no address; `kubectl describe service web` says why")
	case <-ctx.Done():
		return ctx.Err()
	}
	if c.err != nil {
		return c.err
	}
	d.say("address", "%s, within %d ms of the Service's creation", strings.Join(c.addresses, " and "), within(c.assigned))
	if err := d.wait(ctx, "a node to answer for "+d.ip.String(), func() bool { return len(d.watch.Changes()) > 0 }); err != nil {
		return err
	}
	first := d.watch.Changes()[0]
	d.owner = first.Node
	d.say("announce", "%s is the first to claim %s by ARP, within %d ms", first.Node, d.ip, within(first.At.Sub(c.at)))
	if err := d.reached(ctx, c.at); err != nil {
		return err
	}
	for _, line := range []string{
		"kubectl wait --for=condition=fairlead.dev/Announced service/web", // which waits for the speakers to say so
		"kubectl get service web",
		"kubectl get pool,l2adv,speakers",
		announcedBy,
	} {
		if err := d.typed(ctx, "look", line); err != nil {
			return err
		}
	}
	return nil
}

// reached waits until the client gets its first answer. By then the address has
// long been announced: kube-proxy applies changes at most once a second.
func (d *demo) reached(ctx context.Context, created time.Time) error {
	probe := d.lab.Client.ProbeHTTP(netip.AddrPortFrom(d.ip, 80))
	defer probe.Stop()
	if err := d.wait(ctx, "the client to get an answer", func() bool { return probe.Report().Answered > 0 }); err != nil {
		return err
	}
	d.say("reach", "the client gets its first answer within %d ms\n(kube-proxy on %s had to learn of the address; it does so once a second)",
		within(time.Since(created)), d.owner)
	return nil
}

// announcedBy asks who announces the Service's addresses.
const announcedBy = `kubectl get service web -o jsonpath='{.status.conditions[?(@.type=="fairlead.dev/Announced")].message}'`

// creation is how a Service got its addresses.
type creation struct {
	at        time.Time     // when the watch showed the Service
	assigned  time.Duration // from then until it showed the addresses
	addresses []string
	err       error
}

// follow waits for the Service to get its addresses, and begins at once to watch
// who answers for the first.
func (d *demo) follow(services watch.Interface) creation {
	var c creation
	for e := range services.ResultChan() {
		svc, ok := e.Object.(*corev1.Service)
		if !ok || svc.Name != "web" {
			continue
		}
		if c.at.IsZero() {
			c.at = time.Now()
		}
		if len(svc.Status.LoadBalancer.Ingress) == 0 {
			continue
		}
		c.assigned = time.Since(c.at)
		for _, i := range svc.Status.LoadBalancer.Ingress {
			c.addresses = append(c.addresses, i.IP)
		}
		if d.ip, c.err = netip.ParseAddr(c.addresses[0]); c.err == nil {
			d.watch, c.err = d.lab.Observer.WatchNeighbour(d.ip)
		}
		return c
	}
	return creation{err: errors.New("the watch on Services ended early")}
}

// ask is what the two clients see.
func (d *demo) ask(ctx context.Context) error {
	for _, who := range []string{"client", "far"} {
		for _, url := range []string{"http://172.30.0.100", "'http://[fd30::100]'"} {
			if err := d.typed(ctx, "ask", who+" curl -sS --max-time 5 "+url); err != nil {
				return err
			}
		}
	}
	return nil
}

// failover pulls the cable of the node that answers for the address.
func (d *demo) failover(ctx context.Context) error {
	// What the client notices is to be the address and not a lost backend.
	for _, b := range d.backends {
		if b.Spec.Node == d.owner {
			d.say("drain", "%s, which is on %s", b.Spec.Name, d.owner)
			if err := b.SetReady(ctx, false); err != nil {
				return err
			}
		}
	}
	d.say("probe", "the client asks http://%s every 5 ms, each time by a new connection", d.ip)
	probe := d.lab.Client.ProbeHTTP(netip.AddrPortFrom(d.ip, 80))
	defer probe.Stop()
	if err := d.served(ctx, probe); err != nil {
		return err
	}
	d.say("break", "the cable of %s, which answers for the address, is pulled", d.owner)
	pulled := time.Now()
	if err := d.typed(ctx, "type", "sw ip link set "+d.owner+" down"); err != nil {
		return err
	}
	if err := d.wait(ctx, "another node to answer for "+d.ip.String(), func() bool { return d.answering() != d.owner }); err != nil {
		return err
	}
	if err := d.served(ctx, probe); err != nil {
		return err
	}
	changes := d.watch.Changes()
	last := changes[len(changes)-1]
	d.lost, d.owner = d.owner, last.Node
	r := probe.Stop()
	d.say("moved", "%s answers for %s, %d ms after the cable was pulled", d.owner, d.ip, last.At.Sub(pulled).Milliseconds())
	d.say("client", "asked %d times; its longest time without an answer was %d ms", r.Sent, r.LongestOutage.Milliseconds())
	if err := d.wait(ctx, "the Service to say that "+d.owner+" has the address", func() bool { return d.announced(ctx) }); err != nil {
		return err
	}
	return d.typed(ctx, "look", announcedBy)
}

// comeBack puts the cable back and shows that the address stays.
func (d *demo) comeBack(ctx context.Context) error {
	if err := d.wait(ctx, d.owner+" to miss "+d.lost, func() bool { return d.inTouch(ctx, 2) }); err != nil {
		return err
	}
	d.say("fix", "the cable is put back")
	if err := d.typed(ctx, "type", "sw ip link set "+d.lost+" up"); err != nil {
		return err
	}
	if err := d.wait(ctx, d.lost+" to find the others", func() bool { return d.inTouch(ctx, 3) }); err != nil {
		return err
	}
	d.say("back", "%s and the others have found each other again", d.lost)
	if err := sleep(ctx, 2*time.Second); err != nil {
		return err
	}
	if who := d.watch.Answering(200 * time.Millisecond); !slices.Equal(who, []string{d.owner}) {
		return fmt.Errorf("%v answer for %s, which should have stayed on %s:\n%v", who, d.ip, d.owner, d.watch)
	}
	d.say("stays", "%s still answers for %s: an address does not move back", d.owner, d.ip)
	if both := d.watch.Overlap(); both > 0 {
		d.say("note", "for %d ms %s answered as well, until it had found the others", both.Milliseconds(), d.lost)
	}
	return nil
}

// upgrade stops the speaker that owns the address in an orderly way.
func (d *demo) upgrade(ctx context.Context) error {
	probe := d.lab.Client.ProbeHTTP(netip.AddrPortFrom(d.ip, 80))
	defer probe.Stop()
	if err := d.served(ctx, probe); err != nil {
		return err
	}
	before := d.owner
	d.say("stop", "the speaker on %s gets SIGTERM, as in an upgrade; the client keeps asking", before)
	if err := d.lab.Process("speaker-" + before).Stop(ctx); err != nil {
		return err
	}
	if err := d.wait(ctx, "another node to answer for "+d.ip.String(), func() bool { return d.answering() != before }); err != nil {
		return err
	}
	if err := d.served(ctx, probe); err != nil {
		return err
	}
	d.owner = d.answering()
	r := probe.Stop()
	d.say("moved", "%s answers for %s", d.owner, d.ip)
	d.say("client", "asked %d times, %d without an answer", r.Sent, r.Sent-r.Answered)
	speaker, err := d.lab.StartSpeaker(ctx, before)
	if err != nil {
		return err
	}
	if err := speaker.Ready(ctx); err != nil {
		return err
	}
	d.say("start", "the speaker on %s runs again; the address stays on %s", before, d.owner)
	return nil
}

// typed runs a command as a person would type it, and shows it and its output.
func (d *demo) typed(ctx context.Context, verb, line string) error {
	d.say(verb, "$ %s", line)
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(d.lab.Dir, "bin")+":"+os.Getenv("PATH"))
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	d.show(out.String())
	if err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	return nil
}

// served waits until the probe has had answers for half a second, more or less.
func (d *demo) served(ctx context.Context, p *lab.Probe) error {
	enough := p.Report().Answered + 100
	return d.wait(ctx, "the client to get answers", func() bool { return p.Report().Answered >= enough })
}

// answering is the one node that has answered for the address just now; when
// that is none, or more than one, it is the owner so far.
func (d *demo) answering() string {
	if who := d.watch.Answering(100 * time.Millisecond); len(who) == 1 {
		return who[0]
	}
	return d.owner
}

// announced reports whether the Service says that the owner announces it.
func (d *demo) announced(ctx context.Context) bool {
	var svc corev1.Service
	want := d.ip.String() + " by layer 2 from " + d.owner + " "
	return d.api.Get(ctx, client.ObjectKey{Namespace: "default", Name: "web"}, &svc) == nil &&
		says(svc.Status.Conditions, v1alpha1.ConditionAnnounced, want)
}

// inTouch reports whether the owner says that it knows of so many speakers.
func (d *demo) inTouch(ctx context.Context, speakers int) bool {
	var s v1alpha1.Speaker
	return d.api.Get(ctx, client.ObjectKey{Name: d.owner}, &s) == nil &&
		says(s.Status.Conditions, v1alpha1.ConditionReady, fmt.Sprintf("%d speakers connected", speakers))
}

// within is a time in milliseconds, rounded up.
func within(t time.Duration) int64 { return (t + time.Millisecond - 1).Milliseconds() }

func says(conditions []metav1.Condition, kind, what string) bool {
	c := meta.FindStatusCondition(conditions, kind)
	return c != nil && strings.Contains(c.Message, what)
}

// wait waits for what should happen soon.
func (d *demo) wait(ctx context.Context, what string, happened func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("waited %v in vain for %s", patience, what))
	defer cancel()
	for !happened() {
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func sleep(ctx context.Context, t time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(t):
		return nil
	}
}
