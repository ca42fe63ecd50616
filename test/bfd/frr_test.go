package bfd

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/internal/bfd"
)

// frr is FRR's zebra and bfdd on a host.
type frr struct {
	*host
	dir   string
	zebra *exec.Cmd
	bfdd  *exec.Cmd
}

// frrPeer is what `show bfd peers json` says of a session.
type frrPeer struct {
	Peer                   string
	Status                 string
	Diagnostic             string
	RemoteDiagnostic       string `json:"remote-diagnostic"`
	ReceiveInterval        int    `json:"receive-interval"`
	TransmitInterval       int    `json:"transmit-interval"`
	RemoteReceiveInterval  int    `json:"remote-receive-interval"`
	RemoteTransmitInterval int    `json:"remote-transmit-interval"`
	RemoteMultiplier       int    `json:"remote-detect-multiplier"`
}

// frrCounters is what `show bfd peers counters json` says of a session.
type frrCounters struct {
	Peer        string
	SessionUp   int `json:"session-up"`
	SessionDown int `json:"session-down"`
}

const (
	frrFolder = "/usr/lib/frr"
	frrState  = "/var/run/frr"
)

// newFRR starts FRR with these sessions, in its own words; each is indented
// below "bfd".
func newFRR(t *testing.T, h *host, sessions string) *frr {
	if _, err := os.Stat(filepath.Join(frrFolder, "bfdd")); err != nil {
		t.Fatal("FRR is missing; on Debian: apt-get install --no-install-recommends frr")
	}
	f := &frr{host: h, dir: t.TempDir()}
	state := filepath.Join(frrState, h.ns)
	t.Cleanup(func() {
		f.kill(f.bfdd)
		f.kill(f.zebra)
		os.RemoveAll(state)
	})
	run(t, nil, "install", "-d", "-o", "frr", "-g", "frr", state)
	for p := f.dir; p != "/tmp" && p != "/"; p = filepath.Dir(p) {
		os.Chmod(p, 0o755) // the daemons are not root, and read their files later
	}
	write := func(name, text string) string {
		path := filepath.Join(f.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	f.zebra = f.start("zebra", write("zebra.conf", "hostname frr\n"))
	eventually(t, 10*time.Second, func() error { _, err := os.Stat(filepath.Join(state, "zserv.api")); return err })
	f.bfdd = f.start("bfdd", write("bfdd.conf", "bfd\n"+sessions+"!\n"))
	// Its timers must hold as ours do, or sessions would rightly go down.
	exec.Command("chrt", "--fifo", "--all-tasks", "--pid", "1", fmt.Sprint(f.bfdd.Process.Pid)).Run()
	eventually(t, 10*time.Second, func() error { _, err := f.try("show bfd peers json"); return err })
	return f
}

func (f *frr) start(daemon, config string) *exec.Cmd {
	log, err := os.Create(filepath.Join(f.dir, daemon+".log"))
	if err != nil {
		f.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(frrFolder, daemon), "-N", f.ns, "-f", config, "--log", "stdout")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		err := f.in(func() error { // on a thread that lives as long as the daemon: Pdeathsig is about it
			runtime.LockOSThread()
			started <- cmd.Start()
			cmd.Wait()
			return nil
		})
		if err != nil {
			f.t.Errorf("%s: %v", daemon, err)
		}
	}()
	if err := <-started; err != nil {
		f.t.Fatal(err)
	}
	return cmd
}

func (f *frr) kill(cmd *exec.Cmd) {
	if cmd != nil && cmd.Process != nil {
		cmd.Process.Kill()
	}
}

// try runs commands in vtysh.
func (f *frr) try(commands ...string) (string, error) {
	args := []string{"-N", f.ns}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	out, err := exec.Command("vtysh", args...).Output()
	return string(out), err
}

func (f *frr) configure(commands ...string) {
	f.t.Helper()
	if out, err := f.try(append([]string{"configure", "bfd"}, commands...)...); err != nil || strings.Contains(out, "%") {
		f.t.Fatalf("%v: %v %s", commands, err, out)
	}
}

// show asks for JSON.
func show[T any](f *frr, command string) (out T) {
	f.t.Helper()
	text, err := f.try(command)
	if err == nil {
		err = json.Unmarshal([]byte(text), &out)
	}
	if err != nil {
		f.t.Fatalf("%s: %v: %s", command, err, text)
	}
	return out
}

// peers waits until all of that many sessions are as f wants them.
func (f *frr) peers(n int, within time.Duration, ok func(frrPeer) bool) {
	f.t.Helper()
	eventually(f.t, within, func() error {
		peers := show[[]frrPeer](f, "show bfd peers json")
		i := slices.IndexFunc(peers, func(p frrPeer) bool { return !ok(p) })
		if i >= 0 {
			return fmt.Errorf("FRR says %+v", peers[i])
		}
		if len(peers) != n {
			return fmt.Errorf("FRR has %d sessions, want %d", len(peers), n)
		}
		return nil
	})
}

func (f *frr) steady() {
	f.t.Helper()
	for _, c := range show[[]frrCounters](f, "show bfd peers counters json") {
		if c.SessionUp != 1 || c.SessionDown != 0 {
			f.t.Errorf("FRR has seen a flap: %+v", c)
		}
	}
}

func up(p frrPeer) bool { return p.Status == "up" }

// frrSessions are one of each kind, as FRR on host b has them, at 50 ms;
// withFRR are our side of them.
func frrSessions(more string) string {
	var b strings.Builder
	for _, peer := range []string{
		fmt.Sprintf("peer %s local-address %s interface eth0", addrA, addrB),
		fmt.Sprintf("peer %s local-address %s interface eth0", addrA6, addrB6),
		fmt.Sprintf("peer %s local-address %s interface eth0", linkA, linkB),
		fmt.Sprintf("peer %s multihop local-address %s", farA, farB),
		fmt.Sprintf("peer %s multihop local-address %s", farA6, farB6),
	} {
		fmt.Fprintf(&b, " %s\n  receive-interval 50\n  transmit-interval 50\n%s  no shutdown\n exit\n", peer, more)
	}
	return b.String()
}

func withFRR() []bfd.SessionSpec {
	var specs []bfd.SessionSpec
	for _, k := range []bfd.Key{
		{Peer: addrB, Local: addrA},
		{Peer: addrB6},
		{Peer: linkB, Interface: "eth0"},
		{Peer: farB, Local: farA, MultiHop: true},
		{Peer: farB6, Local: farA6, MultiHop: true},
	} {
		specs = append(specs, spec(k))
	}
	return specs
}

func TestFRR(t *testing.T) {
	p := newPair(t)
	specs := withFRR()
	n := len(specs)
	f := newFRR(t, p.b, frrSessions(""))
	e := p.a.child(specs...)
	e.all(n, bfd.Up)
	f.peers(n, 5*time.Second, up)

	t.Run("intervals change without a flap", func(t *testing.T) {
		for _, interval := range []time.Duration{200 * ms, 100 * ms, 1000 * ms, 50 * ms} {
			for i := range specs {
				specs[i].TransmitInterval, specs[i].ReceiveInterval = interval, interval
			}
			e.apply(specs...)
			want := int(interval.Milliseconds())
			f.peers(n, 10*time.Second, func(p frrPeer) bool {
				return up(p) && p.RemoteReceiveInterval == want && p.RemoteTransmitInterval == want
			})
		}
		f.configure(fmt.Sprintf("peer %s multihop local-address %s", farA, farB), "transmit-interval 400")
		eventually(t, 10*time.Second, func() error {
			for _, s := range e.Status().Sessions {
				if s.Key.Peer == farB && s.DetectionTime == 1200*ms {
					return nil
				}
			}
			return fmt.Errorf("not heard of: %+v", e.Status().Sessions)
		})
		f.configure(fmt.Sprintf("peer %s multihop local-address %s", farA, farB), "transmit-interval 50")
		<-time.After(time.Second)
		e.steady()
		f.steady()
	})

	t.Run("FRR shuts a session down", func(t *testing.T) {
		peer := fmt.Sprintf("peer %s local-address %s interface eth0", addrA, addrB)
		f.configure(peer, "shutdown")
		eventually(t, 5*time.Second, func() error {
			s := e.Status().Sessions[0]
			if s.Key.Peer != addrB || s.State != bfd.Down || s.RemoteState != bfd.AdminDown {
				return fmt.Errorf("%+v", s)
			}
			if events := e.seen(); events[len(events)-1].RemoteState != bfd.AdminDown {
				return fmt.Errorf("event %+v", events[len(events)-1])
			}
			return nil
		})
		f.configure(peer, "no shutdown")
		e.all(n, bfd.Up)
	})

	t.Run("we shut sessions down", func(t *testing.T) {
		for i := range specs {
			specs[i].AdminDown = true
		}
		e.apply(specs...)
		f.peers(n, 5*time.Second, func(p frrPeer) bool {
			return p.Status == "down" && p.Diagnostic == "neighbor signaled session down" && p.RemoteDiagnostic == "administratively down"
		})
		for i := range specs {
			specs[i].AdminDown = false
		}
		e.apply(specs...)
		f.peers(n, 5*time.Second, up)
	})

	t.Run("bfdd dies", func(t *testing.T) {
		e.all(n, bfd.Up)
		before := len(e.seen())
		killed := time.Now()
		f.kill(f.bfdd)
		e.all(n, bfd.Down)
		events := e.seen()[before:]
		if len(events) != n {
			t.Errorf("%d events: %+v", len(events), events)
		}
		for _, ev := range events {
			if took := ev.Since.Sub(killed); ev.Diag.String() != "Control Detection Time Expired" || took > 1000*ms {
				t.Errorf("%v: %v after %v, want a timeout within 150 ms and a fifth", ev.Key, ev.Diag, took)
			}
		}
	})
}

// Either side may be the one that waits to be spoken to.
func TestFRRPassive(t *testing.T) {
	t.Run("FRR is passive", func(t *testing.T) {
		p := newPair(t)
		f := newFRR(t, p.b, frrSessions("  passive-mode\n"))
		e := p.a.child(withFRR()...)
		e.all(len(withFRR()), bfd.Up)
		f.peers(len(withFRR()), 5*time.Second, up)
	})
	t.Run("we are passive", func(t *testing.T) {
		p := newPair(t)
		specs := withFRR()
		for i := range specs {
			specs[i].Passive = true
		}
		e := p.a.child(specs...)
		f := newFRR(t, p.b, frrSessions(""))
		e.all(len(specs), bfd.Up)
		f.peers(len(specs), 5*time.Second, up)
	})
}

// A multihop session takes packets of the TTL that it is told to, and no less.
func TestFRRMinimumTTL(t *testing.T) {
	p := newPair(t)
	specs := withFRR()[3:4]
	specs[0].MinimumTTL = 255
	e := p.a.child(specs...)
	f := newFRR(t, p.b, fmt.Sprintf(" peer %s multihop local-address %s\n  minimum-ttl 1\n  no shutdown\n exit\n", farA, farB))
	e.all(1, bfd.Up) // FRR sends with 255, and there is no router
	f.peers(1, 5*time.Second, up)
}

// FRR sees no flap while this machine has no time.
func TestFRRBusyMachine(t *testing.T) {
	p := newPair(t)
	specs := withFRR()
	f := newFRR(t, p.b, frrSessions(""))
	e := p.a.child(specs...)
	e.all(len(specs), bfd.Up)
	f.peers(len(specs), 5*time.Second, up)
	f.try("clear bfd peers counters")
	e.Status()
	spin(t)
	<-time.After(loadTime(t))
	s := e.Status()
	t.Logf("priority %v; timers at most %v late", s.Priority, s.Late)
	e.steady()
	for _, c := range show[[]frrCounters](f, "show bfd peers counters json") {
		if c.SessionDown != 0 {
			t.Errorf("FRR has seen a flap: %+v", c)
		}
	}
}
