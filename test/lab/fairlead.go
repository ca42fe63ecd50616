package lab

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// firstProbePort is where the health probes of the first program of a kind
// listen, on its host's loopback.
const firstProbePort = 8081

// StartController builds Fairlead's controller and starts it on the control
// plane, outside of a pod. There may be several; they are called controller,
// controller-2, …
func (l *Lab) StartController(ctx context.Context, extra ...string) (*Process, error) {
	bin, err := l.build(ctx, "controller", "cmd/controller")
	if err != nil {
		return nil, err
	}
	name := l.freeName("controller")
	return l.ControlPlane.Start(name, slices.Concat([]string{
		bin, "--kubeconfig", l.Kubeconfig(Controller), "--namespace", Namespace,
		"--metrics-bind-address", "0", "--health-probe-bind-address", probes(name),
	}, extra)...)
}

// StartSpeaker builds Fairlead's speaker and starts it on a node. It is called
// speaker-n1, and so is the one after it.
func (l *Lab) StartSpeaker(ctx context.Context, node string, extra ...string) (*Process, error) {
	bin, err := l.build(ctx, "speaker", "cmd/speaker")
	if err != nil {
		return nil, err
	}
	name := "speaker-" + node
	return l.Node(node).Start(name, slices.Concat([]string{
		bin, "--kubeconfig", l.Kubeconfig(Speaker), "--namespace", Namespace, "--node-name", node,
		"--metrics-bind-address", "0", "--health-probe-bind-address", probes(name),
	}, extra)...)
}

// StartFairlead starts a controller, and a speaker on every node, and waits
// until all are ready. Install comes before it.
func (l *Lab) StartFairlead(ctx context.Context) error {
	controller, err := l.StartController(ctx)
	if err != nil {
		return err
	}
	all := []*Process{controller}
	for _, n := range l.Nodes {
		speaker, err := l.StartSpeaker(ctx, n.Name)
		if err != nil {
			return err
		}
		all = append(all, speaker)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range all {
		g.Go(func() error { return p.Ready(ctx) })
	}
	return g.Wait()
}

// build builds a program once per lab: a test that starts a speaker again would
// measure the compiler as well.
func (l *Lab) build(ctx context.Context, name, pkg string) (string, error) {
	l.building.Lock()
	defer l.building.Unlock()
	if bin, ok := l.built[name]; ok {
		return bin, nil
	}
	bin, err := build(ctx, name, pkg)
	if err == nil {
		l.built[name] = bin
	}
	return bin, err
}

// freeName is the first of name, name-2, name-3, … that does not run.
func (l *Lab) freeName(name string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	free := name
	for n := 2; l.processes[free] != nil && !l.processes[free].exited(); n++ {
		free = fmt.Sprintf("%s-%d", name, n)
	}
	return free
}

// probes is the address of the health probes of the process of that name, or
// "" if it is not one of Fairlead's.
func probes(process string) string {
	port := firstProbePort
	switch kind, rest, _ := strings.Cut(process, "-"); kind {
	case "speaker":
	case "controller":
		var n int
		if _, err := fmt.Sscan(rest, &n); err == nil {
			port += n - 1
		}
	default:
		return ""
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}
