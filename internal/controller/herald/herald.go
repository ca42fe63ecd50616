// Package herald passes events on when addresses do not need the API server.
//
// The recorder of client-go sends each event at once and in a goroutine of its
// own. Of two thousand Services created together, each would wait for the events
// of the others.
package herald

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/reference"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/fairlead-lb/fairlead/internal/wake"
)

// Herald is an events.EventRecorder that another one stands behind.
type Herald struct {
	to      events.EventRecorder
	scheme  *runtime.Scheme
	giveWay func(context.Context)

	mu    sync.Mutex  // guards the field below
	queue []item      // oldest first
	more  wake.Signal // has one when the queue has something
}

// item is an event to be.
type item struct {
	about                      *corev1.ObjectReference
	related                    runtime.Object // nil for none
	typ, reason, action, words string
}

// New returns a Herald that passes nothing on until it is registered. giveWay
// blocks as long as an event had better wait.
func New(to events.EventRecorder, scheme *runtime.Scheme, giveWay func(context.Context)) *Herald {
	return &Herald{to: to, scheme: scheme, giveWay: giveWay, more: wake.New()}
}

// Name names the herald in logs and metrics.
func (h *Herald) Name() string { return "herald" }

// Register adds the herald to the manager.
func (h *Herald) Register(mgr ctrl.Manager) error { return mgr.Add(h) }

// Eventf queues an event. It keeps no more of the objects than their names.
func (h *Herald) Eventf(regarding, related runtime.Object, typ, reason, action, note string, args ...any) {
	e := item{about: h.refer(regarding), typ: typ, reason: reason, action: action, words: fmt.Sprintf(note, args...)}
	if related != nil {
		e.related = h.refer(related)
	}
	h.mu.Lock()
	h.queue = append(h.queue, e)
	h.mu.Unlock()
	h.more.Poke()
}

func (h *Herald) refer(o runtime.Object) *corev1.ObjectReference {
	ref, err := reference.GetReference(h.scheme, o)
	if err != nil {
		panic(fmt.Sprintf("an event about a %T, which is not in the scheme: %v", o, err))
	}
	return ref
}

// Start passes events on until the context ends. What is queued then is lost:
// events are for who looks, and the conditions have it too.
func (h *Herald) Start(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.more:
		}
		for e, ok := h.next(); ok; e, ok = h.next() {
			h.giveWay(ctx)
			h.to.Eventf(e.about, e.related, e.typ, e.reason, e.action, "%s", e.words)
		}
	}
}

// next takes the oldest event from the queue.
func (h *Herald) next() (item, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queue) == 0 {
		h.queue = nil
		return item{}, false
	}
	e := h.queue[0]
	h.queue = h.queue[1:]
	return e, true
}
