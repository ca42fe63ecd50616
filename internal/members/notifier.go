package members

import (
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/internal/notify"
)

// notifier signals that the View has changed, or will have changed by a certain time.
type notifier struct {
	signal notify.Signal
	tasks  *tasks
	since  time.Time // intervals are counted from here

	mu  sync.Mutex             // guards the fields below
	due map[time.Duration]bool // after since: the ends of intervals at which it signals
}

func newNotifier(t *tasks) notifier {
	return notifier{signal: notify.New(), tasks: t, since: time.Now(), due: map[time.Duration]bool{}}
}

// now signals at once.
func (n *notifier) now() { n.signal.Poke() }

// in signals after this time.
func (n *notifier) in(d time.Duration) { n.tasks.after(d, n.now) }

// every signals at the end of the present interval of this length, once for all calls until then.
func (n *notifier) every(interval time.Duration) {
	since := time.Since(n.since)
	end := (since + interval).Truncate(interval)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.due[end] {
		return
	}
	n.due[end] = true
	n.tasks.after(end-since, func() {
		n.mu.Lock()
		delete(n.due, end)
		n.mu.Unlock()
		n.now()
	})
}
