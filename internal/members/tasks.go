package members

import (
	"context"
	"sync"
	"time"
)

const (
	// mostTasks is how many tasks run at a time. Nearly all are connections to other speakers, which
	// take milliseconds, or tcpTimeout if there is no answer.
	mostTasks = 512
	// mostQueued is how many more wait.
	mostQueued = 8192
)

// tasks owns goroutines and timers: after stop it starts none, and wait returns when all have ended.
// Only wait blocks, so that the other methods may be called with memberlist's locks held.
type tasks struct {
	ctx    context.Context // ends with stop
	cancel context.CancelFunc
	wg     sync.WaitGroup // goroutines, and timers that are set

	mu      sync.Mutex // guards the fields below; nothing else is locked while it is held
	stopped bool
	running int
	queue   []func(context.Context)
	timers  map[*time.Timer]struct{}
}

func newTasks() *tasks {
	t := &tasks{timers: map[*time.Timer]struct{}{}}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// start runs a task in a goroutine, now or when others have ended. It returns false, and does
// nothing, after stop and if too many tasks wait. stop drops the tasks that wait.
func (t *tasks) start(task func(context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.stopped, len(t.queue) >= mostQueued:
		return false
	case t.running >= mostTasks:
		t.queue = append(t.queue, task)
	default:
		t.running++
		t.wg.Go(func() { t.work(task) })
	}
	return true
}

// work runs a task, and then tasks that wait, until there are none.
func (t *tasks) work(task func(context.Context)) {
	for more := true; more; task, more = t.next() {
		task(t.ctx)
	}
}

func (t *tasks) next() (task func(context.Context), more bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		t.running--
		return nil, false
	}
	task, t.queue = t.queue[0], t.queue[1:]
	return task, true
}

// after calls f in a goroutine after d, unless stop is called first.
func (t *tasks) after(d time.Duration, f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return
	}
	t.wg.Add(1)
	var timer *time.Timer
	timer = time.AfterFunc(d, func() {
		defer t.wg.Done()
		t.mu.Lock()
		delete(t.timers, timer)
		t.mu.Unlock()
		f()
	})
	t.timers[timer] = struct{}{}
}

// stop cancels the context of the tasks, and stops the timers.
func (t *tasks) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped, t.queue = true, nil
	t.cancel()
	for timer := range t.timers {
		if timer.Stop() {
			t.wg.Done()
		}
	}
	clear(t.timers)
}

// wait returns when all tasks have ended. It must follow stop.
func (t *tasks) wait() { t.wg.Wait() }
