package apiconn

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const (
	// firstDelay is the delay after a first failure, which doubles up to one of these.
	firstDelay = 500 * time.Millisecond
	// faultDelay is the longest after a fault of the API server, such as one without etcd.
	faultDelay = 2 * time.Second
	// refusalDelay is the longest after an answer that a person has to change: no
	// permission, or no such kind.
	refusalDelay = 30 * time.Second
	// settlingDelay is the longest within settling after the API server began to answer.
	// At first it refuses what it serves a moment later: it does not know of roles and
	// CustomResourceDefinitions yet.
	settlingDelay = time.Second
	settling      = 30 * time.Second
	// logAfter is how many failures in a row are reported.
	logAfter = 6
	// firstRetry and lastRetry bound the back-off of reconcilers. Most of their failures
	// are conflicts, which the next attempt solves.
	firstRetry = 5 * time.Millisecond
	lastRetry  = 2 * time.Second
)

// Backoff is for reflectors that read by a ListerWatcher of this package. They begin
// again only when a watch ends with an error.
func Backoff() *wait.Backoff {
	return &wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 4, Cap: time.Second}
}

// RateLimiter is for the queue of a reconciler. controller-runtime's own delays grow to 17
// minutes.
func RateLimiter() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry)
}

// ListerWatcher returns one that tries again, until the context ends, what fails for a
// reason that passes. Reflectors see no such failure, and their back-off, which an
// informer's user cannot set, does not grow.
func (c *Conn) ListerWatcher(lw toolscache.ListerWatcher) toolscache.ListerWatcher {
	of := toolscache.ToListerWatcherWithContext(lw)
	return &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (list runtime.Object, err error) {
			err = c.persist(ctx, func() error {
				list, err = of.ListWithContext(ctx, o)
				return err
			})
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (w watch.Interface, err error) {
			err = c.persist(ctx, func() error {
				w, err = of.WatchWithContext(ctx, o)
				return err
			})
			if err != nil {
				return nil, err
			}
			return newQuiet(w), nil
		},
	}
}

// quiet is a watch without the error with which it ends when its connection was lost. A
// reflector then watches on from where it was, without a delay.
type quiet struct {
	watch.Interface
	events chan watch.Event
	ended  chan struct{}
	end    func()
}

func newQuiet(w watch.Interface) *quiet {
	q := &quiet{Interface: w, events: make(chan watch.Event), ended: make(chan struct{})}
	q.end = sync.OnceFunc(func() { close(q.ended) })
	go q.pass()
	return q
}

func (q *quiet) ResultChan() <-chan watch.Event { return q.events }

func (q *quiet) Stop() {
	q.end()
	q.Interface.Stop()
}

// pass passes events on until the watch ends.
func (q *quiet) pass() {
	defer close(q.events)
	for e := range q.Interface.ResultChan() {
		if isLost(e) {
			continue
		}
		select {
		case q.events <- e:
		case <-q.ended:
		}
	}
}

func isLost(e watch.Event) bool {
	status, ok := e.Object.(*metav1.Status)
	return ok && e.Type == watch.Error && utilnet.IsHTTP2ConnectionLost(errors.New(status.Message))
}

// persist calls f until it succeeds, fails for good, or ctx ends.
func (c *Conn) persist(ctx context.Context, f func() error) error {
	returned, _ := c.next()
	for failures := 0; ; failures++ {
		err := f()
		if err == nil || !passes(err) || ctx.Err() != nil {
			return err
		}
		if failures == logAfter {
			c.log.Error(err, "cannot read from the API server; retrying")
		}
		_, since := c.next()
		sleep(ctx, delay(failures, err, since), returned)
		select {
		case <-returned:
			failures = -1
		default:
		}
		returned, _ = c.next()
	}
}

// passes reports whether the same request may succeed later. The others are for the
// reflector, which then asks for something else.
func passes(err error) bool {
	code, isAnswer := codeOf(err)
	switch {
	case !isAnswer:
		return true // the connection failed
	case apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge):
		return false
	}
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return true
	default:
		return code >= http.StatusInternalServerError
	}
}

// codeOf returns the HTTP status of an error that is an answer of the API server.
func codeOf(err error) (code int, isAnswer bool) {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		return 0, false
	}
	return int(answer.Status().Code), true
}

// delay returns how long to wait after so many failures before this one. since is how
// long the API server has answered.
func delay(failures int, err error, since time.Duration) time.Duration {
	longest := faultDelay
	if code, isAnswer := codeOf(err); isAnswer && code < http.StatusInternalServerError {
		longest = refusalDelay
	}
	if since < settling {
		longest = settlingDelay
	}
	d := min(firstDelay<<min(failures, 10), longest)
	return d/2 + rand.N(d/2)
}
