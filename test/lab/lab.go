package lab

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

// defaultRoot holds one folder per lab. It is not the temporary folder, which
// differs from user to user, so that `lab list` finds what `lab up` made.
const defaultRoot = "/run/fairlead-lab"

// Options say what kind of lab to start. The zero value is a good one.
type Options struct {
	// Nodes is how many nodes the cluster has; 0 means 3.
	Nodes int

	// ControlPlaneOnly starts etcd and the API server, and nothing else.
	ControlPlaneOnly bool

	// Pods has nodes run pods: containerd and a kubelet on each, a scheduler and a
	// controller manager on the control plane. Images come from archives, see
	// LoadImages. Otherwise a node is an object and a kube-proxy, which is up in a
	// few seconds, and its backends are those of AddBackend.
	Pods bool

	// Keep lets the lab live on when its owner ends, until `lab down` or Close.
	Keep bool

	// Audit makes the API server log the metadata of each request to
	// logs/audit.log.
	Audit bool

	// Log is told about progress, in lines for a person; nil means silence.
	Log func(format string, args ...any)

	// Dir is the folder in which the lab makes its own; empty means
	// /run/fairlead-lab. List and `lab down` only look into the default.
	Dir string
}

// Lab is a running lab. Its methods may be called from any goroutine.
type Lab struct {
	ID  string
	Dir string // the lab's own folder: logs, kubeconfigs, bin/ for a person

	ControlPlane *Host
	Router       *Host
	Client       *Host // on the LAN
	Observer     *Host // on the LAN too; watch from here to leave Client's neighbour cache alone
	Far          *Host // behind Router
	Nodes        []*Host

	opts   Options
	assets string // folder of the Kubernetes binaries
	sw     *Host  // the switch
	reaper *reaper
	close  func() error
	api    func() (client.Client, error)

	mu        sync.Mutex // guards the fields below
	processes map[string]*Process
	routers   []*Router
	images    []Image // on each node
	closed    bool    // nothing may be started or made any more

	routing sync.Mutex // held while a router is added

	building sync.Mutex        // guards built, for as long as a build takes
	built    map[string]string // Fairlead's programs: name -> path
}

// state is what another process needs to know to attach to a lab. Everything
// else is read from the kernel: namespaces, links, and processes' environments.
type state struct {
	ID               string    `json:"id"`
	Nodes            int       `json:"nodes"`
	ControlPlaneOnly bool      `json:"controlPlaneOnly,omitempty"`
	Pods             bool      `json:"pods,omitempty"`
	Keep             bool      `json:"keep,omitempty"`
	Owner            int       `json:"owner"` // process id
	Assets           string    `json:"assets"`
	Started          time.Time `json:"started"`

	Routers []routerState `json:"routers,omitempty"`
}

// Start builds what is missing, brings a lab up and waits until it works. The
// lab ends with Close, with ctx, or with this process, whichever comes first;
// with Options.Keep only Close ends it once Start has returned.
func Start(ctx context.Context, o Options) (*Lab, error) {
	if err := check(); err != nil {
		return nil, err
	}
	if m := missing(podPackages); o.Pods && len(m) > 0 {
		return nil, missingError(m)
	}
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	if o.ControlPlaneOnly {
		o.Nodes = 0
	}
	if o.Nodes < 0 || o.Nodes > maxNodes {
		return nil, fmt.Errorf("lab: %d nodes: the address plan has room for 1 to %d", o.Nodes, maxNodes)
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.Dir == "" {
		o.Dir = defaultRoot
	}
	assets, err := Assets(ctx, assetsFor(o)...)
	if err != nil {
		return nil, err
	}

	var images []Image
	if o.Pods {
		image, err := podImage(ctx)
		if err != nil {
			return nil, err
		}
		images = append(images, image)
	}

	began := time.Now()
	id := newID()
	dir := filepath.Join(o.Dir, id)
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	for _, d := range []string{dir, filepath.Join(dir, "logs"), filepath.Join(dir, "bin")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
	}
	r, err := startReaper(id, dir)
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	l := newLab(state{ID: id, Nodes: o.Nodes, ControlPlaneOnly: o.ControlPlaneOnly, Pods: o.Pods, Assets: assets}, dir)
	l.opts, l.reaper, l.images = o, r, images
	l.close = sync.OnceValue(l.tearDown)

	// From here on Close undoes whatever had been done.
	stopWatching := context.AfterFunc(ctx, func() { _ = l.Close() })
	if err := l.bringUp(ctx); err != nil {
		l.opts.Log("lab %s: did not come up; logs were:\n%s", id, l.LogTails(8))
		return nil, errors.Join(fmt.Errorf("lab %s: %w", id, err), l.Close())
	}
	if o.Keep && stopWatching() {
		if err := r.dismiss(); err != nil {
			return nil, errors.Join(fmt.Errorf("lab %s: %w", id, err), l.Close())
		}
	}
	o.Log("lab %s: up in %.1f s", id, time.Since(began).Seconds())
	return l, nil
}

// Open attaches to a lab which another process started and kept.
func Open(id string) (*Lab, error) {
	if err := check(); err != nil {
		return nil, err
	}
	if !validID(id) {
		return nil, fmt.Errorf("lab: %q is not the id of a lab", id)
	}
	dir := filepath.Join(defaultRoot, id)
	s, err := readState(dir)
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w", id, err)
	}
	l := newLab(s, dir)
	l.close = sync.OnceValue(func() error { return reap(id, dir) })
	if err := l.knowRouters(s.Routers); err != nil {
		return nil, fmt.Errorf("lab %s: %w", id, err)
	}
	if err := l.adopt(); err != nil {
		return nil, fmt.Errorf("lab %s: %w", id, err)
	}
	return l, nil
}

// Remove takes down the lab with that id, whoever owns it and in whatever
// state it is.
func Remove(id string) error {
	if !validID(id) {
		return fmt.Errorf("lab: %q is not the id of a lab", id)
	}
	return reap(id, filepath.Join(defaultRoot, id))
}

// Info describes a lab on this machine.
type Info struct {
	ID      string
	Dir     string
	Nodes   int
	Kept    bool // lives until it is taken down; otherwise it ends with Owner
	Owner   int  // process id
	Started time.Time
}

// List names the labs on this machine, in the order of their ids.
func List() ([]Info, error) {
	entries, err := os.ReadDir(defaultRoot)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("lab: %w", err)
	}
	var list []Info
	for _, e := range entries {
		if !e.IsDir() || !validID(e.Name()) {
			continue
		}
		info := Info{ID: e.Name(), Dir: filepath.Join(defaultRoot, e.Name())}
		// A lab that never got as far as its state file is listed as well, so
		// that it can be removed.
		if s, err := readState(info.Dir); err == nil {
			info.Nodes, info.Kept, info.Owner, info.Started = s.Nodes, s.Keep, s.Owner, s.Started
		}
		list = append(list, info)
	}
	return list, nil
}

// Close removes the lab: every process, every namespace, its folder. It may be
// called more than once.
func (l *Lab) Close() error { return l.close() }

// Node returns the node of that name (n1, n2, …). It panics if there is none,
// which is a mistake in the program and not in the lab.
func (l *Lab) Node(name string) *Host {
	for _, n := range l.Nodes {
		if n.Name == name {
			return n
		}
	}
	panic(fmt.Sprintf("lab: there is no node %q", name))
}

// NodeByIP returns the name of the node with that address on the LAN, be it a
// link-local one, or "".
func (l *Lab) NodeByIP(ip netip.Addr) string {
	for _, n := range l.Nodes {
		if ip = ip.WithZone(""); ip == n.IPv4 || ip == n.IPv6 || ip == linkLocal(n.MAC) {
			return n.Name
		}
	}
	return ""
}

// NodeByMAC returns the name of the node with that MAC, or "".
func (l *Lab) NodeByMAC(m string) string {
	for _, n := range l.Nodes {
		if n.MAC.String() == m {
			return n.Name
		}
	}
	return ""
}

// Hosts are all machines with a shell in them, the switch excepted.
func (l *Lab) Hosts() []*Host {
	var hosts []*Host
	for _, h := range append([]*Host{l.ControlPlane, l.Router, l.Client, l.Observer, l.Far}, l.Nodes...) {
		if h != nil {
			hosts = append(hosts, h)
		}
	}
	for _, r := range l.Routers() {
		if r.Client != nil {
			hosts = append(hosts, r.Host, r.Client)
		}
	}
	return hosts
}

// newLab describes a lab without making any of it.
func newLab(s state, dir string) *Lab {
	ctrllog.SetLogger(logr.Discard()) // without one, clients write a stack trace after a while
	l := &Lab{
		ID: s.ID, Dir: dir, assets: s.Assets,
		opts:      Options{Nodes: s.Nodes, ControlPlaneOnly: s.ControlPlaneOnly, Pods: s.Pods, Keep: s.Keep, Log: func(string, ...any) {}},
		processes: map[string]*Process{},
		built:     map[string]string{},
	}
	l.api = sync.OnceValues(func() (client.Client, error) {
		return client.New(l.REST(Admin), client.Options{})
	})
	l.sw = &Host{Name: "sw", NS: l.namespace("sw"), lab: l}
	l.ControlPlane = l.lanHost("cp", controlPlaneNumber)
	if s.ControlPlaneOnly {
		return l
	}
	l.Router = l.lanRouter("router", routerNumber, 0)
	l.Client = l.lanHost("client", clientNumber)
	l.Observer = l.lanHost("observer", observerNumber)
	l.Far = l.farHost("far", l.Router)
	for i := 1; i <= s.Nodes; i++ {
		n := l.lanHost(fmt.Sprintf("n%d", i), firstNodeNumber+i-1)
		n.node = i
		l.Nodes = append(l.Nodes, n)
	}
	return l
}

// bringUp makes everything. What does not depend on each other runs at once:
// the API server is what takes longest.
func (l *Lab) bringUp(ctx context.Context) error {
	if err := l.makeNetwork(ctx); err != nil {
		return err
	}
	if err := l.writeWrappers(); err != nil {
		return err
	}
	if err := l.startControlPlane(ctx); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, n := range l.Nodes {
		g.Go(func() error { return l.joinNode(gctx, n) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return writeState(l.Dir, state{
		ID: l.ID, Nodes: l.opts.Nodes, ControlPlaneOnly: l.opts.ControlPlaneOnly, Pods: l.opts.Pods,
		Keep: l.opts.Keep, Owner: os.Getpid(), Assets: l.assets, Started: time.Now().Truncate(time.Second),
	})
}

// tearDown leaves the work to the reaper, as every other way to end does, and
// then waits for the processes that were this one's children.
func (l *Lab) tearDown() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	err := errDismissed
	if !l.reaper.dismissed {
		err = l.reaper.work()
	}
	if err != nil { // it is not there, or somebody has killed it
		err = reap(l.ID, l.Dir)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.processes {
		select {
		case <-p.Done():
		case <-time.After(5 * time.Second):
			err = errors.Join(err, fmt.Errorf("lab %s: %s (process %d) is still there", l.ID, p.Name, p.PID))
		}
	}
	return err
}

func writeState(dir string, s state) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "state.json"), append(b, '\n'), 0o600)
}

func readState(dir string) (state, error) {
	var s state
	b, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if errors.Is(err, os.ErrNotExist) {
		return s, errors.New("there is no such lab, or it is not up yet")
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("state.json: %w", err)
	}
	return s, nil
}

var idPattern = regexp.MustCompile(`^[a-z0-9]{5}$`)

func validID(id string) bool { return idPattern.MatchString(id) }

// newID is random, not counted: two labs that start at once need no agreement.
func newID() string { return strings.ToLower(rand.Text()[:5]) }
