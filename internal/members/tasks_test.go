package members

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/hashicorp/memberlist"

	"github.com/fairlead-lb/fairlead/internal/election"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

func TestTasksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tasks := newTasks()
		var running, most, ran atomic.Int32
		work := func(context.Context) {
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(time.Second)
			running.Add(-1)
			ran.Add(1)
		}
		for i := range mostTasks + mostQueued {
			if !tasks.start(work) {
				t.Fatalf("task %d is refused", i)
			}
		}
		if tasks.start(work) {
			t.Error("more tasks wait than may")
		}
		time.Sleep(time.Hour)
		if most.Load() != mostTasks || ran.Load() != mostTasks+mostQueued {
			t.Errorf("%d tasks ran, %d at a time; want %d, and %d at a time", ran.Load(), most.Load(), mostTasks+mostQueued, mostTasks)
		}
		tasks.stop()
		tasks.wait()
	})
}

func TestTasksEndWithStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tasks := newTasks()
		var ended, late atomic.Int32
		for range mostTasks {
			tasks.start(func(ctx context.Context) { <-ctx.Done(); time.Sleep(time.Second); ended.Add(1) })
		}
		tasks.start(func(context.Context) { late.Add(1) }) // waits for one of the others
		fired := 0
		tasks.after(time.Millisecond, func() { fired++; time.Sleep(2 * time.Second); ended.Add(1) })
		tasks.after(time.Minute, func() { late.Add(1) })
		time.Sleep(10 * time.Millisecond)
		tasks.stop()
		tasks.stop()
		tasks.wait()
		if ended.Load() != mostTasks+1 || fired != 1 {
			t.Errorf("after wait %d tasks and timers have ended, want %d", ended.Load(), mostTasks+1)
		}
		tasks.after(0, func() { late.Add(1) })
		if tasks.start(func(context.Context) { late.Add(1) }) {
			t.Error("a task is started after stop")
		}
		time.Sleep(time.Hour)
		if late.Load() != 0 {
			t.Errorf("%d tasks and timers ran after stop", late.Load())
		}
	})
}

// goroutines returns the stacks of those that this package has begun, or that memberlist runs,
// which calls this package. Tests' own are not among them.
func goroutines() (stacks []string) {
	buffer := make([]byte, 1<<20)
	buffer = buffer[:runtime.Stack(buffer, true)]
	for stack := range strings.SplitSeq(string(buffer), "\n\n") {
		begun := stack[strings.LastIndex(stack, "created by ")+1:]
		if strings.Contains(begun, "/internal/members.(*") || strings.Contains(begun, "/internal/members.new") || strings.Contains(begun, "hashicorp/memberlist") ||
			strings.Contains(stack, "time.goFunc") && strings.Contains(stack, "/internal/members.") {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

// Members that are stopped while they join, sync and tell each other news leave nothing behind.
func TestNothingIsLeftAfterStop(t *testing.T) {
	if left := goroutines(); len(left) > 0 {
		t.Fatalf("an earlier test left %d goroutines:\n%s", len(left), strings.Join(left, "\n\n"))
	}
	large := Facts{Joined: true} // which goes to all directly
	for i := range 40 {
		large.Interfaces = append(large.Interfaces, netif.Interface{Name: fmt.Sprint("vlan", i), MAC: "02:00:00:00:00:01"})
	}
	var all []*Members
	for n := range 5 {
		all = append(all, start(t, 1+n, 1, 1))
	}
	for _, m := range all {
		m.Join(t.Context(), endpoint(1))
	}
	if len(goroutines()) == 0 {
		t.Fatal("the goroutines of members that run are not found")
	}
	var wg sync.WaitGroup
	for i, m := range all {
		wg.Go(func() {
			for n := range all {
				go m.Join(t.Context(), endpoint(1+n))
			}
			m.SetFacts(large)
			m.Claim(map[netip.Addr]election.Claim{vip: {Owner: m.cfg.Node, Epoch: uint64(i) + 1}})
			m.Revive(func(string) bool { return false })
			m.View()
			if i%2 == 0 {
				if err := m.shutdown(); err != nil {
					t.Error(err)
				}
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := m.Stop(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// memberlist does not wait for its own.
	var left []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if left = goroutines(); len(left) == 0 {
			break
		}
		for _, stack := range left {
			if !strings.Contains(stack, "created by github.com/hashicorp/memberlist") {
				t.Fatalf("a goroutine of this package is left:\n%s", stack)
			}
		}
	}
	if len(left) > 0 {
		t.Fatalf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
	}
	for _, m := range all {
		(*delegate)(m).NotifyLeave(m.list.Load().LocalNode()) // as a timer of memberlist's may
		m.changed.every(time.Millisecond)
		if len(m.tasks.timers) > 0 || m.tasks.running > 0 {
			t.Errorf("%s has %d timers and %d tasks", m.cfg.Node, len(m.tasks.timers), m.tasks.running)
		}
	}
}

// A speaker that accepts connections and never answers holds up who joins it, syncs with it or sends it
// something, for a second. Stop does not wait that long, and yet for all of them to end.
func TestStopEndsWhatWaitsForAnAnswer(t *testing.T) {
	silent, err := net.Listen("tcp", endpoint(40)[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	m := start(t, 1, 1, 1)
	d := (*delegate)(m)
	node := &memberlist.Node{Name: "n40", Addr: net.IPv4(127, 0, 0, 50), Port: port}
	d.NotifyJoin(node)
	joined := make(chan bool, 1)
	go func() { joined <- m.Join(t.Context(), endpoint(40)) }()
	d.NotifyLeave(node)
	d.MergeRemoteState(message{Sender: "n40", Digest: &digest{Facts: 1}}.encode(), false)
	var ended atomic.Bool
	m.tasks.start(func(ctx context.Context) {
		<-ctx.Done()
		<-time.After(20 * time.Millisecond) // as long as Stop takes without it, and more
		ended.Store(true)
	})
	const waiting = 3 // for an answer
	for range waiting {
		conn, err := silent.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	m.tasks.mu.Lock()
	if m.tasks.running != waiting+1 {
		t.Errorf("%d tasks run, want %d: some goroutine has no owner", m.tasks.running, waiting+1)
	}
	m.tasks.mu.Unlock()
	began := time.Now()
	if err := m.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > tcpTimeout/2 {
		t.Errorf("stopped after %s", took)
	}
	if !ended.Load() || m.tasks.running != 0 {
		t.Error("Stop did not wait for a task")
	}
	if <-joined {
		t.Error("has joined a listener that never answered")
	}
	if left := len(m.transport.open.open); left > 0 {
		t.Errorf("%d connections are left open", left)
	}
}

// memberlist calls before Start has what it returns.
func TestCallsBeforeStartIsDone(t *testing.T) {
	m := New(Config{Node: "n1", Log: logr.Discard()})
	d := (*delegate)(m)
	d.NotifyJoin(&memberlist.Node{Name: "n2", Addr: net.IPv4(127, 0, 0, 50), Port: port})
	d.NotifyLeave(&memberlist.Node{Name: "n2"})
	d.MergeRemoteState(message{Sender: "n2", Digest: &digest{Facts: 1}}.encode(), false)
	m.tasks.stop()
	m.tasks.wait()
	if v := m.View(); !slices.Contains(v.Alive, "n2") {
		t.Errorf("%v are alive, want n2, which was there a moment ago", v.Alive)
	}
}
