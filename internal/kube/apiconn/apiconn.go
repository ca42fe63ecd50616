// Package apiconn has a program continue its work within seconds once the API server
// answers again, however long it was away.
//
// client-go and controller-runtime retry with back-offs that grow to a minute and more,
// each on its own. Here one probe per process asks an API server that does not answer.
// Until it does, requests wait instead of failing, so that no back-off grows.
package apiconn

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/fairlead-lb/fairlead/internal/notify"
)

const (
	// probeInterval is the longest time from the start of one probe to that of the next
	// while the API server does not answer: a thousand nodes send it some 1,300 small
	// requests a second then, and none while it answers.
	probeInterval = time.Second
	// probeTimeout is how long an API server may take to answer a probe. TCP repeats its
	// first packet after one second; a new attempt is sooner than the second repetition.
	probeTimeout = 2 * time.Second
	// slowAnswer is after how long without an answer to a request a probe is sent.
	slowAnswer = 2 * time.Second
	// releaseWithin is the time over which the nodes of a cluster continue after an
	// absence, each at a random moment: a frozen API server answers all probes at once.
	releaseWithin = 500 * time.Millisecond
)

// Conn is what is known of the connection to the API server. At first that is
// nothing: requests wait until Run has had an answer.
type Conn struct {
	log       logr.Logger
	suspected notify.Signal // a request failed, or is slow

	mu        sync.Mutex // guards the fields below
	reachable bool
	answers   chan struct{} // closed while the API server is reachable
	changed   time.Time     // when reachable last changed; zero before the first answer
	returned  chan struct{} // closed at the next return
	inFlight  map[*request]bool
}

// request is one that has been sent and not been answered.
type request struct{ abort context.CancelCauseFunc }

// errAborted is the end of requests that were sent before the API server was away, and
// not answered: on a connection that died, they would wait for minutes.
var errAborted = errors.New("the API server was down, and answers other requests again: this request is abandoned")

// New returns a Conn through which no request passes until Run has had an answer.
func New(log logr.Logger) *Conn {
	return &Conn{
		log: log, suspected: notify.New(),
		answers: make(chan struct{}), returned: make(chan struct{}), inFlight: map[*request]bool{},
	}
}

// Run keeps track of whether the API server answers, until ctx ends. The requests of
// probe must come from the context that it is given, and it must return nil when the API
// server answered, whatever the answer is.
func (c *Conn) Run(ctx context.Context, probe func(context.Context) error) {
	for ctx.Err() == nil {
		began := time.Now()
		attempt, cancel := context.WithTimeout(context.WithValue(ctx, isProbe{}, true), probeTimeout)
		err := probe(attempt)
		cancel()
		if err != nil {
			c.lost(ctx, err)
		} else {
			c.found(ctx)
			select {
			case <-ctx.Done():
			case <-c.suspected:
			}
		}
		interval := probeInterval/2 + rand.N(probeInterval/2)
		sleep(ctx, interval-time.Since(began), nil)
	}
}

// isProbe is the key of contexts with which a request does not wait.
type isProbe struct{}

// lost records that a probe had no answer.
func (c *Conn) lost(ctx context.Context, cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil || !c.reachable && !c.changed.IsZero() {
		return
	}
	if c.reachable {
		c.answers = make(chan struct{})
	}
	c.reachable, c.changed = false, time.Now()
	c.log.Info("the API server does not answer; requests wait until it does", "cause", cause.Error())
}

// found records that a probe had an answer. After an absence it lets requests pass, ends
// those that the absence may have swallowed, and wakes those that wait to try again.
func (c *Conn) found(ctx context.Context) {
	c.mu.Lock()
	reachable, away := c.reachable, !c.changed.IsZero()
	c.mu.Unlock()
	if reachable {
		return
	}
	if away {
		sleep(ctx, rand.N(releaseWithin), nil)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if away {
		c.log.Info("the API server answers again", "away for", time.Since(c.changed).Round(time.Second).String())
		for r := range c.inFlight {
			r.abort(errAborted)
		}
		close(c.returned)
		c.returned = make(chan struct{})
	}
	c.reachable, c.changed = true, time.Now()
	close(c.answers)
}

// Wrap has requests wait while the API server does not answer, until their context ends.
func (c *Conn) Wrap(next http.RoundTripper) http.RoundTripper { return gate{next, c} }

type gate struct {
	next http.RoundTripper
	conn *Conn
}

// RoundTrip implements http.RoundTripper.
func (g gate) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Context().Value(isProbe{}) != nil {
		return g.next.RoundTrip(req)
	}
	if err := g.conn.wait(req.Context()); err != nil {
		return nil, err
	}
	ctx, abort := context.WithCancelCause(req.Context())
	r := &request{abort}
	g.conn.sent(r)
	slow := time.AfterFunc(slowAnswer, g.conn.suspected.Poke)
	res, err := g.next.RoundTrip(req.WithContext(ctx))
	slow.Stop()
	g.conn.done(r)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		} else {
			g.conn.suspected.Poke()
		}
		abort(nil)
		return nil, err
	}
	if byProxy(res.StatusCode) {
		g.conn.suspected.Poke()
	}
	res.Body = body{res.Body, abort}
	return res, nil
}

// WrappedRoundTripper lets client-go find the transport, to close its idle connections.
func (g gate) WrappedRoundTripper() http.RoundTripper { return g.next }

// byProxy reports whether a status may be that of a load balancer in front of an API
// server that is away, or of one that starts or ends.
func byProxy(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}

// body ends the context of its request when it is closed.
type body struct {
	io.ReadCloser
	end context.CancelCauseFunc
}

func (b body) Close() error {
	err := b.ReadCloser.Close()
	b.end(nil)
	return err
}

// wait returns when the API server answers, or with the error of ctx.
func (c *Conn) wait(ctx context.Context) error {
	c.mu.Lock()
	answers := c.answers
	c.mu.Unlock()
	select {
	case <-answers:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *Conn) sent(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight[r] = true
}

func (c *Conn) done(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.inFlight, r)
}

// next returns a channel that is closed when the API server has been away and answers
// again, and how long ago it last began to answer.
func (c *Conn) next() (returned <-chan struct{}, since time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.returned, time.Since(c.changed)
}

// sleep returns after d, or earlier when ctx ends or wake receives.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
	}
}
