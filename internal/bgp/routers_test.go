package bgp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// ip runs commands of iproute2 in the tests' own namespace.
func ip(t testing.TB, commands ...string) {
	t.Helper()
	for _, c := range commands {
		run(t, "ip", strings.Fields(c)...)
	}
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// router is a host with a cable to this one: 192.0.2.1 and 2001:db8::1 there,
// 192.0.2.11 and 2001:db8::11 here, on an interface of this name.
type router struct {
	t    testing.TB
	pid  string // of a process in its namespace
	port string // our end of the cable
	dir  string
}

var (
	router4, router6 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	node4, node6     = netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("2001:db8::11")
)

var cables atomic.Int32

func newRouter(t testing.TB) *router {
	t.Helper()
	root(t)
	holder := exec.Command("sleep", "infinity")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	r := &router{t: t, pid: strconv.Itoa(holder.Process.Pid), port: fmt.Sprintf("cable%d", cables.Add(1)), dir: t.TempDir()}
	t.Cleanup(func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
		_ = exec.Command("ip", "link", "del", r.port).Run() // the kernel takes its time with the namespace
	})
	r.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	r.run("ip", "link", "set", "lo", "up")
	r.connect()
	return r
}

// connect makes the cable.
func (r *router) connect() {
	r.t.Helper()
	ip(r.t, "link add "+r.port+" type veth peer name eth0 netns "+r.pid, "link set "+r.port+" up",
		"addr add 192.0.2.11/24 dev "+r.port, "addr add 2001:db8::11/64 nodad dev "+r.port)
	for _, c := range []string{"link set eth0 up", "addr add 192.0.2.1/24 dev eth0", "addr add 2001:db8::1/64 nodad dev eth0"} {
		r.run("ip", strings.Fields(c)...)
	}
}

// unnumbered makes the router one that is known by the interface only.
func (r *router) unnumbered(p *lb.BGPPeer) { p.Address, p.Interface = netip.Addr{}, r.port }

// command returns a command that runs at the router.
func (r *router) command(name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--target", r.pid, "--net", name}, args...)...)
}

func (r *router) run(name string, args ...string) string {
	r.t.Helper()
	out, err := r.command(name, args...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("router: %s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// daemon starts a program at the router that ends with the test.
func (r *router) daemon(name string, args ...string) *exec.Cmd {
	r.t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		r.t.Skipf("needs %s", name)
	}
	c := r.command(name, args...)
	log, err := os.Create(filepath.Join(r.dir, filepath.Base(name)+".out"))
	if err != nil {
		r.t.Fatal(err)
	}
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		log.Close()
		if r.t.Failed() {
			text, _ := os.ReadFile(log.Name())
			r.t.Logf("%s: %s", name, tail(string(text), 2000))
		}
	})
	return c
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// frr starts zebra and bgpd with this configuration of bgpd.
func (r *router) frr(config string) *frr {
	r.t.Helper()
	f := &frr{router: r}
	// Short, as socket addresses are; and not t.TempDir, whose name is long.
	dir, err := os.MkdirTemp("", "frr")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { os.RemoveAll(dir) })
	f.dir = dir
	write(r.t, dir+"/zebra.conf", "ip nht resolve-via-default\n")
	write(r.t, dir+"/bgpd.conf", config)
	run(r.t, "chown", "-R", "frr:frr", dir) // as whom its daemons run
	f.start("zebra")
	eventually(r.t, "zebra to start", func() bool { return exists(dir + "/zserv.api") })
	f.start("bgpd")
	eventually(r.t, "bgpd to start", func() bool { return exists(dir + "/bgpd.vty") })
	return f
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

type frr struct {
	*router
	dir string
}

func (f *frr) start(name string) {
	f.t.Helper()
	args := []string{"-f", f.dir + "/" + name + ".conf", "--vty_socket", f.dir, "-i", f.dir + "/" + name + ".pid", "-z", f.dir + "/zserv.api", "-P", "0", "--log", "stdout"}
	f.daemon("/usr/lib/frr/"+name, args...)
}

// vtysh runs a command and returns what it says.
func (f *frr) vtysh(commands ...string) string {
	args := []string{"--vty_socket", f.dir}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	out, _ := f.command("vtysh", args...).CombinedOutput()
	return string(out)
}

// show returns the JSON that a command gives.
func (f *frr) show(command string, into any) bool {
	return json.Unmarshal([]byte(f.vtysh("show "+command+" json")), into) == nil
}

// eventually waits until something is so. What happens outside this process can
// only be asked for again and again.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	within(t, 15*time.Second, what, is)
}

func within(t testing.TB, d time.Duration, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited %v for %s", d, what)
		}
	}
}

func testLog(t testing.TB) logr.Logger {
	return funcr.New(func(prefix, args string) {
		if testing.Verbose() {
			fmt.Fprintln(os.Stderr, time.Now().Format("05.000"), prefix, args)
		}
	}, funcr.Options{Verbosity: 1})
}

// newEngine returns an Engine that is closed with the test.
func newEngine(t testing.TB) *Engine {
	e := New(Config{Log: testLog(t)})
	t.Cleanup(e.Close)
	return e
}

// peer returns a peer as the API's defaults make it, but less patient.
func peer(edit func(*lb.BGPPeer)) lb.BGPPeer {
	p := lb.BGPPeer{
		Name: "tor", MyASN: 64512, PeerASN: 64513, Address: router4, HoldTime: 90 * time.Second, ConnectTime: time.Second,
		RouterID: node4, GracefulRestart: true,
	}
	if edit != nil {
		edit(&p)
	}
	return p
}

// route returns a row for the peer "tor".
func route(prefix string, edit func(*lb.BGPRoute)) lb.BGPRoute {
	r := lb.BGPRoute{Prefix: netip.MustParsePrefix(prefix), Peers: []string{"tor"}}
	if edit != nil {
		edit(&r)
	}
	return r
}

// session returns the only session, or the one of the peer "tor".
func sessionOf(e *Engine, peer string) Session {
	for _, s := range e.Sessions() {
		if s.Peer == peer {
			return s
		}
	}
	return Session{}
}

func established(t testing.TB, e *Engine, peer string) Session {
	t.Helper()
	var s Session
	defer func() {
		if t.Failed() {
			t.Logf("%+v", s)
		}
	}()
	eventually(t, "session with "+peer, func() bool {
		s = sessionOf(e, peer)
		return s.State == Established
	})
	return s
}
