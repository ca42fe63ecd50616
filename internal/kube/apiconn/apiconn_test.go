package apiconn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// within is what is promised (X1), less what the lab adds.
const within = 2500 * time.Millisecond

// state is how an apiServer takes requests.
type state int

const (
	up       state = iota
	refusing       // connections are refused
	hanging        // nothing is answered, as when packets are dropped
	starting       // answers, but does not know of roles and kinds yet
	proxied        // a load balancer answers in its place
)

// apiServer serves Nodes named by a number, in memory.
type apiServer struct {
	mu      sync.Mutex
	state   state
	nodes   []corev1.Node
	watches []*io.PipeWriter
	arrived []time.Time // of requests but probes, since the last set
	probes  int
}

// set changes the state. Connections are lost when the server is gone.
func (s *apiServer) set(to state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.arrived = to, nil
	if to == up || to == starting {
		return
	}
	for _, w := range s.watches {
		_ = w.CloseWithError(errors.New("http2: client connection lost"))
	}
	s.watches = nil
}

// add has the server know of another Node.
func (s *apiServer) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = append(s.nodes, corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: fmt.Sprint(len(s.nodes) + 1)}})
	for _, w := range s.watches {
		s.send(w, &s.nodes[len(s.nodes)-1])
	}
}

// counts returns how many probes came, and when the other requests arrived since the state
// was last set.
func (s *apiServer) counts() (probes int, arrived []time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.probes, slices.Clone(s.arrived)
}

func (s *apiServer) send(w io.Writer, n *corev1.Node) {
	b, err := json.Marshal(map[string]any{"type": "ADDED", "object": n})
	if err != nil {
		panic(err)
	}
	go func() { _, _ = w.Write(append(b, '\n')) }() // fails if the watch ends meanwhile
}

func (s *apiServer) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if req.URL.Path == "/livez" {
		s.probes++
	} else {
		s.arrived = append(s.arrived, time.Now())
	}
	switch s.state {
	case refusing:
		return nil, &url.Error{Op: "Get", URL: req.URL.String(), Err: syscall.ECONNREFUSED}
	case hanging:
		if err := s.retransmit(req.Context()); err != nil {
			return nil, err
		}
	case proxied:
		return answer(http.StatusServiceUnavailable, strings.NewReader("no backend")), nil
	case starting:
		if req.URL.Path != "/livez" {
			return status(apierrors.NewForbidden(schema.GroupResource{}, "", errors.New("no roles yet"))), nil
		}
	}
	return s.serve(req), nil
}

// retransmit sends a request again as TCP does, each time after twice as long, until the
// server is there.
func (s *apiServer) retransmit(ctx context.Context) error {
	for timeout := 200 * time.Millisecond; s.state == hanging && ctx.Err() == nil; timeout *= 2 {
		s.mu.Unlock()
		sleep(ctx, timeout, nil)
		s.mu.Lock()
	}
	return ctx.Err()
}

func (s *apiServer) serve(req *http.Request) *http.Response {
	q := req.URL.Query()
	switch {
	case req.URL.Path == "/livez":
		return answer(http.StatusOK, strings.NewReader("ok"))
	case q.Get("sendInitialEvents") != "":
		return status(apierrors.NewInvalid(schema.GroupKind{}, "", nil)) // an old one
	case q.Get("watch") != "":
		r, w := io.Pipe()
		var seen int
		_, _ = fmt.Sscan(q.Get("resourceVersion"), &seen)
		for i := seen; i < len(s.nodes); i++ {
			s.send(w, &s.nodes[i])
		}
		s.watches = append(s.watches, w)
		res := answer(http.StatusOK, nil)
		res.Body = r
		context.AfterFunc(req.Context(), func() { _ = r.Close() })
		return res
	default:
		list := corev1.NodeList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "NodeList"}, Items: s.nodes}
		list.ResourceVersion = fmt.Sprint(len(s.nodes))
		b, err := json.Marshal(list)
		if err != nil {
			panic(err)
		}
		return answer(http.StatusOK, strings.NewReader(string(b)))
	}
}

func answer(status int, body io.Reader) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(body)}
}

func status(err *apierrors.StatusError) *http.Response {
	s := err.Status()
	s.APIVersion, s.Kind = "v1", "Status"
	b, _ := json.Marshal(s)
	return answer(int(s.Code), strings.NewReader(string(b)))
}

// client is a process that talks to an apiServer.
type client struct {
	conn *Conn
	http http.Client
	rest *rest.RESTClient
}

func newClient(t *testing.T, s *apiServer) *client {
	t.Helper()
	c := &client{conn: New(logr.Discard())}
	c.http.Transport = c.conn.Wrap(s)
	var err error
	c.rest, err = rest.NewRESTClient(&url.URL{Scheme: "https", Host: "api"}, "/api/v1", rest.ClientContentConfig{
		GroupVersion: schema.GroupVersion{Version: "v1"}, Negotiator: runtime.NewClientNegotiator(scheme.Codecs.WithoutConversion(), schema.GroupVersion{Version: "v1"}),
	}, nil, &c.http)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	t.Cleanup(func() { cancel(); <-ended })
	go func() {
		defer close(ended)
		c.conn.Run(ctx, func(ctx context.Context) error { return c.get(ctx, "/livez") })
	}()
	return c
}

func (c *client) get(ctx context.Context, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api"+path, nil)
	if err != nil {
		return err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if byProxy(res.StatusCode) {
		return errors.New(res.Status)
	}
	return nil
}

// follow has a reflector, as the speaker's mirrors have it, or an informer, as
// controllers do, follow the Nodes.
func (c *client) follow(t *testing.T, informer bool) toolscache.Store {
	t.Helper()
	lw := c.conn.ListerWatcher(toolscache.NewListWatchFromClient(c.rest, "nodes", "", fields.Everything()))
	ctx, cancel := context.WithCancel(t.Context())
	store := toolscache.NewStore(toolscache.MetaNamespaceKeyFunc)
	run := toolscache.NewReflectorWithOptions(lw, &corev1.Node{}, store, toolscache.ReflectorOptions{Backoff: Backoff()}).RunWithContext
	if informer {
		i := toolscache.NewSharedIndexInformer(lw, &corev1.Node{}, 0, nil)
		store, run = i.GetStore(), i.RunWithContext
	}
	ended := make(chan struct{})
	t.Cleanup(func() { cancel(); <-ended })
	go func() {
		defer close(ended)
		run(ctx)
	}()
	return store
}

// await returns how long it takes until the store has the object.
func await(t *testing.T, store toolscache.Store, name string) time.Duration {
	t.Helper()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		switch _, there, _ := store.GetByKey(name); {
		case there:
			return time.Since(began)
		case time.Since(began) > 10*time.Minute:
			t.Fatalf("%s did not come within ten minutes", name)
		}
	}
}

func TestNewsComesSoonAfterTheReturn(t *testing.T) {
	const minute = time.Minute
	tests := []struct {
		name string
		away state
		last []time.Duration // absences, ten seconds apart
	}{
		{"connections refused", refusing, []time.Duration{45 * time.Second}},
		{"refused for ten minutes", refusing, []time.Duration{10 * minute}},
		{"refused for an hour", refusing, []time.Duration{time.Hour}},
		{"packets dropped", hanging, []time.Duration{45 * time.Second}},
		{"packets dropped for ten minutes", hanging, []time.Duration{10 * minute}},
		{"packets dropped for a moment", hanging, []time.Duration{2500 * time.Millisecond}},
		{"a load balancer answers", proxied, []time.Duration{10 * minute}},
		{"comes and goes", refusing, slices.Repeat([]time.Duration{5 * time.Second}, 12)},
		{"comes and goes for a moment each", hanging, slices.Repeat([]time.Duration{1500 * time.Millisecond}, 12)},
		{"answers, but refuses", starting, []time.Duration{10 * time.Second}},
		{"a long one after a short one", hanging, []time.Duration{2 * time.Second, 5 * minute}},
	}
	for _, tt := range tests {
		for _, informer := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, informer %v", tt.name, informer), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &apiServer{}
					s.add("first")
					store := newClient(t, s).follow(t, informer)
					await(t, store, "first")
					for i, away := range tt.last {
						time.Sleep(10 * time.Second)
						s.set(tt.away)
						time.Sleep(away)
						s.set(up)
						name := fmt.Sprint("new-", i)
						s.add(name)
						if took := await(t, store, name); took > within {
							t.Errorf("after absence %d the object came only after %v", i+1, took)
						}
					}
				})
			})
		}
	}
}

// An API server that starts answers before it knows of roles and kinds.
func TestNewsComesSoonAfterAStart(t *testing.T) {
	for _, starts := range []time.Duration{time.Second, 5 * time.Second, 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := &apiServer{}
			store := newClient(t, s).follow(t, true)
			s.set(refusing)
			time.Sleep(10 * time.Minute)
			s.set(starting)
			time.Sleep(starts)
			s.set(up)
			s.add("new")
			if took := await(t, store, "new"); took > within {
				t.Errorf("the object came only after %v", took)
			}
		})
	}
}

func TestRequestsWaitForTheFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &apiServer{state: refusing}
		c := newClient(t, s)
		time.AfterFunc(10*time.Minute, func() { s.set(up) })
		began := time.Now()
		if err := c.get(t.Context(), "/write"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began) - 10*time.Minute; took > within {
			t.Errorf("the request passed %v after the API server was there", took)
		}
	})
}

// A status write that is sent as the packets stop must not wait for the minutes after
// which TCP gives up.
func TestUnansweredRequestsEndAtTheReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &apiServer{}
		c := newClient(t, s)
		if err := c.get(t.Context(), "/write"); err != nil {
			t.Fatal(err)
		}
		s.set(hanging)
		time.AfterFunc(10*time.Minute, func() { s.set(up) })
		began := time.Now()
		if err := c.get(t.Context(), "/write"); !errors.Is(err, errAborted) {
			t.Fatalf("got %v, want %v", err, errAborted)
		}
		if took := time.Since(began) - 10*time.Minute; took < 0 || took > within {
			t.Errorf("the request ended %v after the return", took)
		}
		if err := c.get(t.Context(), "/write"); err != nil {
			t.Errorf("the next: %v", err)
		}
	})
}

func TestAWaitingRequestEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, &apiServer{state: refusing})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		if err := c.get(ctx, "/write"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("it ended after %v", took)
		}
	})
}

// While all is well there are no probes; while the API server is away, at most two a second.
func TestProbesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &apiServer{}
		s.add("first")
		store := newClient(t, s).follow(t, false)
		await(t, store, "first")
		time.Sleep(time.Hour)
		if probes, _ := s.counts(); probes != 1 {
			t.Errorf("%d probes in an hour in which all was well", probes-1)
		}
		s.set(refusing)
		time.Sleep(time.Minute)
		probes, arrived := s.counts()
		if probes > 121 {
			t.Errorf("%d probes in a minute", probes)
		}
		if len(arrived) > 2 {
			t.Errorf("%d requests went to an API server that does not answer", len(arrived))
		}
	})
}

// A frozen API server answers all probes in one moment, and the nodes' requests must not
// all come in the next.
func TestAThousandNodesReturnOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &apiServer{}
		const nodes = 1000
		var conns []*client
		for range nodes {
			c := newClient(t, s)
			conns = append(conns, c)
			if err := c.get(t.Context(), "/write"); err != nil {
				t.Fatal(err)
			}
		}
		s.set(hanging)
		var all sync.WaitGroup
		for _, c := range conns {
			all.Go(func() { _ = c.get(t.Context(), "/write") })
			all.Go(func() {
				time.Sleep(10 * time.Second)
				_ = c.get(t.Context(), "/write")
			})
		}
		time.Sleep(time.Minute)
		s.set(up)
		returned := time.Now()
		all.Wait()
		if took := time.Since(returned); took > within {
			t.Errorf("the last came after %v", took)
		}
		slots := map[int64]int{}
		_, arrived := s.counts()
		for _, at := range arrived {
			slots[at.Sub(returned).Milliseconds()/100]++
		}
		for slot, n := range slots {
			if n > nodes/4 {
				t.Errorf("%d of %d requests came in the 100 ms from %d ms on", n, nodes, slot*100)
			}
		}
	})
}

func TestReconcilersRetryWithinSeconds(t *testing.T) {
	r := RateLimiter()
	var longest time.Duration
	for range 1000 {
		longest = max(longest, r.When(reconcile.Request{}))
	}
	if longest > lastRetry {
		t.Errorf("a reconciler waits for %v", longest)
	}
}

func TestDelays(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{}, "", errors.New("no"))
	broken := apierrors.NewInternalError(errors.New("etcdserver: request timed out"))
	tests := []struct {
		name    string
		err     error
		since   time.Duration
		longest time.Duration
	}{
		{"a person has to give the right", forbidden, time.Hour, refusalDelay},
		{"roles are not read yet", forbidden, time.Second, settlingDelay},
		{"etcd is away", broken, time.Hour, faultDelay},
		{"the connection failed", errors.New("EOF"), time.Hour, faultDelay},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for failures := range 100 {
				if d := delay(failures, tt.err, tt.since); d > tt.longest || d < firstDelay/2 {
					t.Errorf("after %d failures: %v", failures, d)
				}
			}
		})
	}
}
