package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const netnsDir = "/run/netns"

func (l *Lab) namespace(host string) string { return "fl-" + l.ID + "-" + host }

func (l *Lab) lanHost(name string, n int) *Host {
	return &Host{Name: name, NS: l.namespace(name), IPv4: lan4(n), IPv6: lan6(n), MAC: mac(0, n), lab: l}
}

// lanRouter is a host with a network behind it.
func (l *Lab) lanRouter(name string, n, network int) *Host {
	h := l.lanHost(name, n)
	h.routes, h.network = true, network
	return h
}

// farHost is the one host in the network behind a router.
func (l *Lab) farHost(name string, router *Host) *Host {
	return &Host{
		Name: name, NS: l.namespace(name), behind: router, lab: l,
		IPv4: far4(router.network, clientNumber), IPv6: far6(router.network, clientNumber), MAC: mac(1+router.network, clientNumber),
	}
}

// makeNetwork makes the namespaces, the switch and the cables, and gives every
// host its addresses and routes.
func (l *Lab) makeNetwork(ctx context.Context) error {
	hosts := l.Hosts()
	if err := l.addNamespaces(ctx, append([]*Host{l.sw}, hosts...)); err != nil {
		return err
	}
	if err := l.sw.setSysctls(switchSysctls); err != nil {
		return err
	}
	for _, h := range hosts {
		if err := h.setSysctls(h.sysctls()); err != nil {
			return err
		}
	}
	if err := ipBatch(ctx, l.sw.NS, l.switchCommands()); err != nil {
		return err
	}
	if l.Far != nil {
		if err := ipBatch(ctx, l.Router.NS, []string{farCable(l.Far)}); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, h := range hosts {
		g.Go(func() error { return ipBatch(ctx, h.NS, l.hostCommands(h)) })
	}
	return g.Wait()
}

// addNamespaces takes turns with other labs: the first `ip netns add` on a
// machine also makes the mount below which all namespaces live, and two at
// once can lose a namespace under a second mount.
func (l *Lab) addNamespaces(ctx context.Context, hosts []*Host) error {
	unlock, err := lockFile(filepath.Join(filepath.Dir(l.Dir), "netns.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	for _, h := range hosts {
		if _, err := run(ctx, "ip", "netns", "add", h.NS); err != nil {
			return err
		}
	}
	return nil
}

// switchCommands make a switch that only switches. Without multicast snooping
// it floods multicast like a plain switch does, and needs no querier; without
// STP a port forwards at once.
func (l *Lab) switchCommands() []string {
	commands := []string{
		"link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
		"link set br0 up",
	}
	for _, h := range l.Hosts() {
		if h.behind == nil {
			commands = append(commands, portCommands(h)...)
		}
	}
	return commands
}

// portCommands plug a host into the switch. The peer is born in its namespace:
// nothing ever appears in the root namespace.
func portCommands(h *Host) []string {
	return []string{
		fmt.Sprintf("link add %s type veth peer name eth0 address %s netns %s", h.Name, h.MAC, h.NS),
		fmt.Sprintf("link set %s master br0 up", h.Name),
	}
}

// farCable plugs a host into the router that it is behind.
func farCable(h *Host) string {
	return fmt.Sprintf("link add eth1 address %s type veth peer name eth0 address %s netns %s",
		mac(1+h.behind.network, routerNumber), h.MAC, h.NS)
}

func (l *Lab) hostCommands(h *Host) []string {
	commands := []string{
		"link set lo up",
		"link set eth0 up",
		fmt.Sprintf("addr add %s/24 dev eth0", h.IPv4),
		fmt.Sprintf("addr add %s/64 dev eth0 nodad", h.IPv6),
	}
	route := func(to any, via netip.Addr) {
		commands = append(commands, fmt.Sprintf("route add %s via %s", to, via))
	}
	switch {
	case h.routes:
		return append(commands, "link set eth1 up",
			fmt.Sprintf("addr add %s/24 dev eth1", far4(h.network, routerNumber)),
			fmt.Sprintf("addr add %s/64 dev eth1 nodad", far6(h.network, routerNumber)))
	case h.behind != nil:
		route("0.0.0.0/0", far4(h.behind.network, routerNumber))
		route("::/0", far6(h.behind.network, routerNumber))
		return commands
	case l.Router != nil:
		route("0.0.0.0/0", l.Router.IPv4)
		route("::/0", l.Router.IPv6)
	}
	if h.node == 0 && h != l.ControlPlane { // whose API server answers pods
		return commands
	}
	for _, other := range l.Nodes {
		if other != h {
			route(podCIDR4(other.node), other.IPv4)
			route(podCIDR6(other.node), other.IPv6)
			continue
		}
		// Packets for a pod that is gone must not leave by the default route.
		commands = append(commands, fmt.Sprintf("route add unreachable %s", podCIDR4(h.node)),
			fmt.Sprintf("route add unreachable %s", podCIDR6(h.node)))
	}
	return commands
}

type sysctl struct{ key, value string }

var (
	// switchSysctls keep the switch silent.
	switchSysctls = []sysctl{
		{"net/ipv6/conf/all/disable_ipv6", "1"},
		{"net/ipv6/conf/default/disable_ipv6", "1"},
	}

	// hostSysctls are set before a host has any interface, so that they hold
	// for each from its first moment. New namespaces may inherit from the
	// machine (rp_filter), hence also what looks like a default.
	hostSysctls = []sysctl{
		{"net/ipv4/conf/all/rp_filter", "0"},
		{"net/ipv4/conf/default/rp_filter", "0"},
		{"net/ipv6/conf/all/disable_ipv6", "0"},
		{"net/ipv6/conf/default/disable_ipv6", "0"},
		{"net/ipv6/conf/all/accept_dad", "0"},
		{"net/ipv6/conf/default/accept_dad", "0"},
		{"net/ipv6/conf/all/accept_ra", "0"},
		{"net/ipv6/conf/default/accept_ra", "0"},
		{"net/ipv6/conf/default/router_solicitations", "0"},
	}

	forwardingSysctls = []sysctl{
		{"net/ipv4/ip_forward", "1"},
		{"net/ipv6/conf/all/forwarding", "1"},
		{"net/ipv6/conf/default/forwarding", "1"},
	}
)

func (h *Host) setSysctls(list []sysctl) error {
	return h.Do(func() error {
		for _, s := range list {
			if err := os.WriteFile(filepath.Join("/proc/sys", s.key), []byte(s.value), 0); err != nil {
				return fmt.Errorf("%s: %w", h.Name, err)
			}
		}
		return nil
	})
}

// sysctls are what a machine of this sort needs.
func (h *Host) sysctls() []sysctl {
	if h.forwards() {
		return slices.Concat(hostSysctls, forwardingSysctls)
	}
	return hostSysctls
}

// forwards reports whether the host is a router in the wide sense.
func (h *Host) forwards() bool { return h.node != 0 || h.routes }

// ipBatch runs many ip commands in a namespace in one process.
func ipBatch(ctx context.Context, ns string, commands []string) error {
	cmd := exec.CommandContext(ctx, "ip", "-n", ns, "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	_, err := output(cmd)
	return err
}

// run runs a command that works on namespaces from the outside.
func run(ctx context.Context, argv ...string) ([]byte, error) {
	return output(exec.CommandContext(ctx, argv[0], argv[1:]...))
}

// output is like cmd.Output, but the error says what the command complained about.
func output(cmd *exec.Cmd) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), commandError(cmd, stderr.Bytes(), err)
	}
	return stdout.Bytes(), nil
}

func commandError(cmd *exec.Cmd, stderr []byte, err error) error {
	words := strings.Join(cmd.Args, " ")
	if s := strings.TrimSpace(string(stderr)); s != "" {
		return fmt.Errorf("%s: %w: %s", words, err, s)
	}
	return fmt.Errorf("%s: %w", words, err)
}

// lockFile waits until it is the only holder of that file.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil
}

// Dial connects from inside the host's namespace. A connection belongs to the
// namespace it was made in, so afterwards any goroutine may use it.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := h.Do(func() (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}
