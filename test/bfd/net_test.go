package bfd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/internal/bfd"
)

const ms = time.Millisecond

// host is a network namespace.
type host struct {
	t  *testing.T
	ns string
}

// pair is two hosts with a cable between them: eth0 on both.
type pair struct {
	a, b *host
}

// Addresses of a pair's hosts; and of their loopback interfaces, which are two
// hops away for BFD, as no one may know.
var (
	addrA, addrB   = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	addrA6, addrB6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	linkA, linkB   = netip.MustParseAddr("fe80::a"), netip.MustParseAddr("fe80::b")
	farA, farB     = netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")
	farA6, farB6   = netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("2001:db8:1::2")
)

func newPair(t *testing.T) pair {
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces takes root")
	}
	p := pair{a: newHost(t, "a"), b: newHost(t, "b")}
	p.a.ip("link add eth0 type veth peer name eth0 netns " + p.b.ns)
	setUp(p.a, addrA, addrA6, linkA, farA, farA6)
	setUp(p.b, addrB, addrB6, linkB, farB, farB6)
	route := func(h *host, to, to6, via, via6 netip.Addr) {
		h.ip(fmt.Sprintf("route add %s via %s", to, via), fmt.Sprintf("route add %s via %s", to6, via6))
	}
	route(p.a, farB, farB6, addrB, addrB6)
	route(p.b, farA, farA6, addrA, addrA6)
	return p
}

func newHost(t *testing.T, name string) *host {
	h := &host{t: t, ns: fmt.Sprintf("fl-bfd-%d-%s", os.Getpid(), name)}
	run(t, nil, "ip", "netns", "add", h.ns)
	t.Cleanup(func() { run(t, nil, "ip", "netns", "del", h.ns) })
	return h
}

func setUp(h *host, addr, addr6, link, far, far6 netip.Addr) {
	h.ip("link set lo up",
		"link set eth0 addrgenmode none", // link-local addresses that a test knows
		"link set eth0 up",
		fmt.Sprintf("addr add %s/24 dev eth0", addr),
		fmt.Sprintf("addr add %s/64 dev eth0 nodad", addr6),
		fmt.Sprintf("addr add %s/64 dev eth0 nodad", link),
		fmt.Sprintf("addr add %s/32 dev lo", far),
		fmt.Sprintf("addr add %s/128 dev lo nodad", far6))
}

func (h *host) ip(commands ...string) {
	h.t.Helper()
	run(h.t, strings.NewReader(strings.Join(commands, "\n")+"\n"), "ip", "-n", h.ns, "-batch", "-")
}

func run(t *testing.T, stdin *strings.Reader, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	if stdin != nil {
		cmd.Stdin = stdin
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// in runs f in the host's namespace, on a thread that ends with it.
func (h *host) in(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := errors.New("the function did not return")
		defer func() { result <- err }()
		var ns *os.File
		if ns, err = os.Open("/run/netns/" + h.ns); err != nil {
			return
		}
		defer ns.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err == nil {
			err = f()
		}
	}()
	return <-result
}

// runner is an Engine, or a Child.
type runner interface {
	Apply([]bfd.SessionSpec) error
	Run(context.Context) error
	Status() bfd.Status
}

// childCommand makes this test's program the child of itself.
const childCommand = "bfd-child"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == childCommand {
		if err := bfd.Serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func inProcess(c bfd.Config) runner { return bfd.New(c) }
func asChild(c bfd.Config) runner   { return bfd.NewChild(c, "/proc/self/exe", childCommand) }

// engine is a runner that runs on a host.
type engine struct {
	runner
	t    *testing.T
	stop func() // returns when the engine has stopped

	mu     sync.Mutex // guards the field below
	events []bfd.Event
}

func (h *host) engine(specs ...bfd.SessionSpec) *engine { return h.run(inProcess, specs...) }

func (h *host) child(specs ...bfd.SessionSpec) *engine { return h.run(asChild, specs...) }

func (h *host) run(newRunner func(bfd.Config) runner, specs ...bfd.SessionSpec) *engine {
	e := &engine{t: h.t}
	e.runner = newRunner(bfd.Config{Log: logr.Discard(), Notify: func(ev bfd.Event) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.events = append(e.events, ev)
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := h.in(func() error { return e.Run(ctx) }); err != nil {
			h.t.Errorf("engine: %v", err)
		}
	}()
	e.stop = func() { cancel(); <-done }
	h.t.Cleanup(e.stop)
	e.apply(specs...)
	return e
}

func (e *engine) apply(specs ...bfd.SessionSpec) {
	e.t.Helper()
	if err := e.Apply(specs); err != nil {
		e.t.Fatal(err)
	}
}

// seen returns the events so far.
func (e *engine) seen() []bfd.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.events)
}

// all waits until there are that many sessions, all in that state, and the events
// that say so have come, which they do later.
func (e *engine) all(n int, want bfd.State) {
	e.t.Helper()
	eventually(e.t, 10*time.Second, func() error {
		s := e.Status().Sessions
		last := map[bfd.Key]bfd.Event{}
		for _, ev := range e.seen() {
			last[ev.Key] = ev
		}
		for _, s := range s {
			if s.State != want {
				return fmt.Errorf("%v is %v (%v) %s", s.Key, s.State, s.Diag, s.Err)
			}
			if ev := last[s.Key]; ev.State != want || !ev.Since.Equal(s.Since) {
				return fmt.Errorf("%v is %v since %v, the last event is %+v", s.Key, s.State, s.Since, ev)
			}
		}
		if len(s) != n {
			return fmt.Errorf("%d sessions, want %d", len(s), n)
		}
		return nil
	})
}

// steady fails the test when a session has gone down, or come up again.
func (e *engine) steady() {
	e.t.Helper()
	for _, s := range e.Status().Sessions {
		if s.Ups != 1 || s.Downs != 0 || s.State != bfd.Up {
			e.t.Errorf("%v flapped: %+v", s.Key, s)
		}
	}
}

func eventually(t *testing.T, within time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for tick := time.NewTicker(20 * ms); ; <-tick.C {
		err := f()
		if err == nil {
			tick.Stop()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %v", within, err)
		}
	}
}
