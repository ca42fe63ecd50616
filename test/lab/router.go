package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// RouterKind is the program that makes a router one.
type RouterKind int

// The kinds of router.
const (
	_    RouterKind = iota
	FRR             // zebra, bgpd, bfdd
	BIRD            // BIRD 2
)

func (k RouterKind) String() string {
	switch k {
	case FRR:
		return "frr"
	case BIRD:
		return "bird"
	}
	return fmt.Sprintf("RouterKind(%d)", int(k))
}

// ParseRouterKind reads what String writes.
func ParseRouterKind(s string) (RouterKind, error) {
	for _, k := range []RouterKind{FRR, BIRD} {
		if s == k.String() {
			return k, nil
		}
	}
	return 0, fmt.Errorf("%q is no kind of router: want frr or bird", s)
}

// RouterSpec describes a BGP router.
type RouterSpec struct {
	Kind RouterKind

	// Config is the configuration file. It may be a text/template, which gets a
	// RouterConfig, and has {{range list "a" "b"}}. Empty means the recipe of the kind: docs/recipes/frr.conf or
	// bird.conf, literally.
	Config string

	// On is the machine on which it runs, beside all else that does: a node, to
	// stand in for a speaker or for a CNI that speaks BGP itself, or a client behind
	// another router, to be one hop further away. Then it has no client of its own,
	// and is called like the machine. Empty means a machine of its own.
	On string
}

// RouterConfig is what the template of a configuration may ask for.
type RouterConfig struct {
	Router *Host
	Nodes  []*Host
}

// Router is a router with BGP and BFD on the LAN, and a client behind it, which
// reaches Service addresses only by the routes that the router has learned.
// The LAN knows the way back to that client. Flows are spread over the next
// hops of a route by addresses and ports.
type Router struct {
	*Host

	Kind   RouterKind
	Client *Host // nil if it runs on a node

	software software
}

// software is what differs between kinds of router.
type software interface {
	needs() []Package
	configFile() string
	daemons() []string // names of processes, in the order in which they start
	start(context.Context) error
	reload(context.Context) error
	command(context.Context, ...string) ([]byte, error)
	shell() string // a command line, for a person
	sessions(context.Context) ([]BGPSession, error)
	paths(context.Context) (map[netip.Prefix][]BGPPath, error)
	bfd(context.Context) ([]BFDSession, error)
}

// routerState is what another process needs to know of a router.
type routerState struct {
	Kind string `json:"kind"`
	On   string `json:"on,omitempty"`
}

// AddRouter adds a router to the lab and waits until it runs. The first is
// called r2 and is at 172.30.0.2 and fd30::2, the next is r3; `router` is the
// first router of a lab, which knows no BGP. Its client is called far2.
func (l *Lab) AddRouter(ctx context.Context, spec RouterSpec) (*Router, error) {
	r, err := l.addRouter(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("add a router (%s): %w", spec.Kind, err)
	}
	return r, nil
}

func (l *Lab) addRouter(ctx context.Context, spec RouterSpec) (*Router, error) {
	l.routing.Lock()
	defer l.routing.Unlock()
	if l.Router == nil {
		return nil, errors.New("this lab has only a control plane")
	}
	r, err := l.newRouter(spec.Kind, spec.On)
	if err != nil {
		return nil, err
	}
	if m := missing(r.software.needs()); len(m) > 0 {
		return nil, missingError(m)
	}
	if spec.Config == "" {
		if spec.Config, err = Recipe(spec.Kind); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(r.dir(), 0o700); err != nil {
		return nil, err
	}
	if err := r.writeConfig(spec.Config); err != nil {
		return nil, err
	}
	// From here on its name and its addresses are taken, come what may.
	if err := l.noteRouter(r); err != nil {
		return nil, err
	}
	if r.Client != nil {
		if err := l.plugRouter(ctx, r); err != nil {
			return nil, err
		}
	}
	if err := l.writeWrappers(); err != nil {
		return nil, err
	}
	return r, r.Start(ctx)
}

// newRouter describes a router without making any of it.
func (l *Lab) newRouter(kind RouterKind, on string) (*Router, error) {
	r := &Router{Kind: kind}
	number := firstBGPNumber
	for _, other := range l.Routers() {
		if on != "" && other.Name == on {
			return nil, fmt.Errorf("there is one on %s already", on)
		}
		if other.Client != nil {
			number++
		}
	}
	switch {
	case on != "":
		if r.Host = l.host(on); r.Host == nil {
			return nil, fmt.Errorf("there is no machine %q", on)
		}
	case number > lastBGPNumber:
		return nil, fmt.Errorf("the address plan has room for no more than %d", lastBGPNumber-firstBGPNumber+1)
	default:
		r.Host = l.lanRouter(fmt.Sprintf("r%d", number), number, number)
		r.Client = l.farHost(fmt.Sprintf("far%d", number), r.Host)
	}
	switch kind {
	case FRR:
		r.software = frr{r}
	case BIRD:
		r.software = bird{r}
	default:
		return nil, fmt.Errorf("there is no such kind: %s", kind)
	}
	return r, nil
}

// knowRouters describes the routers that another process has added.
func (l *Lab) knowRouters(list []routerState) error {
	for _, s := range list {
		kind, err := ParseRouterKind(s.Kind)
		if err != nil {
			return fmt.Errorf("state.json: %w", err)
		}
		r, err := l.newRouter(kind, s.On)
		if err != nil {
			return err
		}
		l.routers = append(l.routers, r)
	}
	return nil
}

// Routers are the routers that AddRouter has added.
func (l *Lab) Routers() []*Router {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*Router(nil), l.routers...)
}

// Recipe is the configuration from docs/recipes for that kind of router.
func Recipe(kind RouterKind) (string, error) {
	repo, err := repository()
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(filepath.Join(repo, "docs", "recipes", kind.String()+".conf"))
	return string(b), err
}

// ecmpSysctls have flows stay with a next hop, and those of one client spread.
var ecmpSysctls = []sysctl{
	{"net/ipv4/fib_multipath_hash_policy", "1"},
	{"net/ipv6/fib_multipath_hash_policy", "1"},
}

// plugRouter makes the router's machine, its client's, and their cables.
func (l *Lab) plugRouter(ctx context.Context, r *Router) error {
	if err := l.addNamespaces(ctx, []*Host{r.Host, r.Client}); err != nil {
		return err
	}
	for _, h := range []*Host{r.Host, r.Client} {
		if err := h.setSysctls(h.sysctls()); err != nil {
			return err
		}
	}
	if err := r.setSysctls(ecmpSysctls); err != nil {
		return err
	}
	if err := ipBatch(ctx, l.sw.NS, portCommands(r.Host)); err != nil {
		return err
	}
	if err := ipBatch(ctx, r.NS, append([]string{farCable(r.Client)}, l.hostCommands(r.Host)...)); err != nil {
		return err
	}
	if err := ipBatch(ctx, r.Client.NS, l.hostCommands(r.Client)); err != nil {
		return err
	}
	back := []string{
		fmt.Sprintf("route add %s via %s", netip.PrefixFrom(r.Client.IPv4, 24).Masked(), r.IPv4),
		fmt.Sprintf("route add %s via %s", netip.PrefixFrom(r.Client.IPv6, 64).Masked(), r.IPv6),
	}
	for _, h := range append([]*Host{l.Router}, l.Nodes...) {
		if err := ipBatch(ctx, h.NS, back); err != nil {
			return err
		}
	}
	return nil
}

// noteRouter makes a router known, to other processes as well.
func (l *Lab) noteRouter(r *Router) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.routers = append(l.routers, r)
	s, err := readState(l.Dir)
	if err != nil {
		return err
	}
	note := routerState{Kind: r.Kind.String()}
	if r.Client == nil {
		note.On = r.Name
	}
	s.Routers = append(s.Routers, note)
	return writeState(l.Dir, s)
}

// dir holds the router's configuration and its sockets.
func (r *Router) dir() string { return filepath.Join(r.lab.Dir, r.Name) }

func (r *Router) file(name string) string { return filepath.Join(r.dir(), name) }

func (r *Router) writeConfig(text string) error {
	t, err := template.New(r.software.configFile()).Funcs(template.FuncMap{
		"list": func(items ...string) []string { return items },
	}).Parse(text)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	var b strings.Builder
	if err := t.Execute(&b, RouterConfig{Router: r.Host, Nodes: r.lab.Nodes}); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return os.WriteFile(r.file(r.software.configFile()), []byte(b.String()), 0o600)
}

// startTimeout is how long a router may take to start.
const startTimeout = 20 * time.Second

// Start starts the router's daemons with the configuration that it has, after
// Stop, Kill or PowerOff, and waits until they have read it.
func (r *Router) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := r.software.start(ctx); err != nil {
		return fmt.Errorf("start %s: %w", r.Name, err)
	}
	return nil
}

// Stop ends the daemons in an orderly way: peers are told, routes removed.
func (r *Router) Stop(ctx context.Context) error {
	processes := r.Processes()
	for i := len(processes) - 1; i >= 0; i-- {
		if err := processes[i].Stop(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Restart is Stop and Start.
func (r *Router) Restart(ctx context.Context) error {
	if err := r.Stop(ctx); err != nil {
		return err
	}
	return r.Start(ctx)
}

// Kill lets all daemons crash. The routes stay in the kernel, as they do.
func (r *Router) Kill() error { return r.each((*Process).Kill) }

// Freeze stops all daemons from running: the kernel still forwards and accepts
// connections, but no peer is answered.
func (r *Router) Freeze() error { return r.each((*Process).Freeze) }

// Thaw ends Freeze.
func (r *Router) Thaw() error { return r.each((*Process).Thaw) }

// PowerOn boots the router after PowerOff, with nothing left of its routes.
func (r *Router) PowerOn(ctx context.Context) error {
	flush := []string{"neigh flush all"}
	for _, protocol := range []string{"bgp", "bird", "zebra"} {
		flush = append(flush, "-4 route flush proto "+protocol, "-6 route flush proto "+protocol)
	}
	for _, words := range flush {
		if _, err := r.Exec(ctx, append([]string{"ip"}, strings.Fields(words)...)...); err != nil {
			return err
		}
	}
	if err := r.PlugCable(); err != nil {
		return err
	}
	return r.Start(ctx)
}

// Processes are the router's daemons, as they were last started.
func (r *Router) Processes() []*Process {
	var all []*Process
	for _, d := range r.software.daemons() {
		if p := r.lab.Process(d + "-" + r.Name); p != nil {
			all = append(all, p)
		}
	}
	return all
}

func (r *Router) each(f func(*Process) error) error {
	var errs []error
	for _, p := range r.Processes() {
		errs = append(errs, f(p))
	}
	return errors.Join(errs...)
}

// Reload replaces the configuration of a running router. Only what differs is
// changed, as far as the program can do that: other sessions stay.
func (r *Router) Reload(ctx context.Context, config string) error {
	if err := r.writeConfig(config); err != nil {
		return fmt.Errorf("reload %s: %w", r.Name, err)
	}
	if err := r.software.reload(ctx); err != nil {
		return fmt.Errorf("reload %s: %w", r.Name, err)
	}
	return nil
}

// Command gives the router commands as a person would in vtysh or birdc, and
// returns the answer. Each is a word of its own: "configure terminal", "router
// bgp 64512", …; BIRD takes one at a time.
func (r *Router) Command(ctx context.Context, commands ...string) ([]byte, error) {
	return r.software.command(ctx, commands...)
}

// Cable connects a router and a node directly, beside the switch. The interface
// is called like the machine at the other end (n1 on the router, r2 on the
// node) and has a link-local address only, as unnumbered BGP wants it.
func (r *Router) Cable(ctx context.Context, node *Host) error {
	err := ipBatch(ctx, r.NS, []string{
		fmt.Sprintf("link add %s type veth peer name %s netns %s", node.Name, r.Name, node.NS),
		fmt.Sprintf("link set %s up", node.Name),
	})
	if err == nil {
		err = ipBatch(ctx, node.NS, []string{fmt.Sprintf("link set %s up", r.Name)})
	}
	if err != nil {
		return fmt.Errorf("cable from %s to %s: %w", r.Name, node.Name, err)
	}
	return nil
}
