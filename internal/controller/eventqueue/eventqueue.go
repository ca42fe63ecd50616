// Package eventqueue passes events on when addresses do not need the API server.
//
// The recorder of client-go sends each event at once and in a goroutine of its
// own. Of two thousand Services created together, each would wait for the events
// of the others.
package eventqueue

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/reference"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/fairlead-lb/fairlead/internal/notify"
)

// Queue is an events.EventRecorder that another one stands behind.
type Queue struct {
	to      events.EventRecorder
	scheme  *runtime.Scheme
	giveWay func(context.Context)

	mu    sync.Mutex    // guards the field below
	items []item        // oldest first
	more  notify.Signal // has one when the queue has something
}

// item is an event to be.
type item struct {
	about                      *corev1.ObjectReference
	related                    runtime.Object // nil for none
	typ, reason, action, words string
}

// New returns a Queue that passes nothing on until it is registered. giveWay
// blocks as long as an event had better wait.
func New(to events.EventRecorder, scheme *runtime.Scheme, giveWay func(context.Context)) *Queue {
	return &Queue{to: to, scheme: scheme, giveWay: giveWay, more: notify.New()}
}

// Name names the queue in logs and metrics.
func (q *Queue) Name() string { return "eventqueue" }

// Register adds the queue to the manager.
func (q *Queue) Register(mgr ctrl.Manager) error { return mgr.Add(q) }

// Eventf queues an event. It keeps no more of the objects than their names.
func (q *Queue) Eventf(regarding, related runtime.Object, typ, reason, action, note string, args ...any) {
	e := item{about: q.refer(regarding), typ: typ, reason: reason, action: action, words: fmt.Sprintf(note, args...)}
	if related != nil {
		e.related = q.refer(related)
	}
	q.mu.Lock()
	q.items = append(q.items, e)
	q.mu.Unlock()
	q.more.Poke()
}

func (q *Queue) refer(o runtime.Object) *corev1.ObjectReference {
	ref, err := reference.GetReference(q.scheme, o)
	if err != nil {
		panic(fmt.Sprintf("an event about a %T, which is not in the scheme: %v", o, err))
	}
	return ref
}

// Start passes events on until the context ends. What is queued then is lost:
// events are for who looks, and the conditions have it too.
func (q *Queue) Start(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-q.more:
		}
		for e, ok := q.next(); ok; e, ok = q.next() {
			q.giveWay(ctx)
			q.to.Eventf(e.about, e.related, e.typ, e.reason, e.action, "%s", e.words)
		}
	}
}

// next takes the oldest event from the queue.
func (q *Queue) next() (item, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		q.items = nil
		return item{}, false
	}
	e := q.items[0]
	q.items = q.items[1:]
	return e, true
}
