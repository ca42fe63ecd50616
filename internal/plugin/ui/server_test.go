package ui

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/plugin/clustertest"
)

// shown is a page that shows the eventful cluster.
func shown(t *testing.T) *page {
	t.Helper()
	p := newPage("lab", clustertest.Install)
	c, events := eventful()
	if err := p.show(c.New(), New(c.New(), "lab", events)); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestHandler(t *testing.T) {
	h := handler(shown(t), 4711)
	for name, c := range map[string]struct {
		method, host, path string
		status             int
		words              string
	}{
		"page":            {"GET", "127.0.0.1:4711", "/", 200, "<title>Fairlead</title>"},
		"by name":         {"GET", "localhost:4711", "/page.js", 200, "EventSource"},
		"IPv6":            {"GET", "[::1]:4711", "/style.css", 200, "--page"},
		"document":        {"GET", "127.0.0.1:4711", "/document.json", 200, `"cluster":"lab"`},
		"explanation":     {"GET", "127.0.0.1:4711", "/explain?address=172.30.0.100", 200, "172.30.0.100 is announced by layer 2 from n1"},
		"no address":      {"GET", "127.0.0.1:4711", "/explain?address=lan", 400, `"lan" is not an IP address`},
		"other path":      {"GET", "127.0.0.1:4711", "/api", 404, ""},
		"DNS rebinding":   {"GET", "evil.example:4711", "/document.json", 421, `this is 127.0.0.1:4711, and not "evil.example:4711"`},
		"other port":      {"GET", "127.0.0.1:80", "/document.json", 421, ""},
		"a name like us":  {"GET", "localhost.evil.example:4711", "/", 421, ""},
		"write":           {"POST", "127.0.0.1:4711", "/document.json", 405, "only GET"},
		"delete":          {"DELETE", "127.0.0.1:4711", "/", 405, "only GET"},
		"head is no GET":  {"HEAD", "127.0.0.1:4711", "/", 405, ""},
		"method and host": {"POST", "evil.example", "/", 421, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(c.method, "http://"+c.host+c.path, nil)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.words) {
				t.Errorf("%s %s of %s answers %d %.200q, want %d and %q", c.method, c.path, c.host, w.Code, w.Body, c.status, c.words)
			}
			if got := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(got, "default-src 'none'; script-src 'self'") || strings.Contains(got, "unsafe") {
				t.Errorf("the policy is %q", got)
			}
			if got := w.Header().Get("Access-Control-Allow-Origin"); got != "" {
				t.Errorf("%s may read it", got)
			}
		})
	}
}

// What is served needs nothing from elsewhere, and no policy weaker than ours.
func TestPageIsSelfContained(t *testing.T) {
	for _, name := range []string{"index.html", "style.css", "page.js"} {
		b, err := web.ReadFile("web/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"http://", "https://", "innerHTML", "style=\"", "onclick", "eval("} {
			if strings.Contains(string(b), bad) {
				t.Errorf("%s has %q", name, bad)
			}
		}
	}
}

// addressesIn reads a stream, and returns how many addresses the next document on it
// tells of.
func addressesIn(t *testing.T, from io.Reader) func() int {
	lines := bufio.NewReader(from)
	return func() int {
		t.Helper()
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				var d struct {
					Addresses int `json:"addresses"`
				}
				if err := json.Unmarshal([]byte(data), &d); err != nil {
					t.Fatal(err)
				}
				return d.Addresses
			}
		}
	}
}

// A browser is sent the document at once, and another when the cluster has changed;
// the stream ends when the command does.
func TestEvents(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, ended := shown(t), make(chan error, 1)
	go func() { ended <- serve(ctx, listener, handler(p, listener.Addr().(*net.TCPAddr).Port)) }()
	answer, err := http.Get("http://" + listener.Addr().String() + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if got := answer.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("it is %s", got)
	}
	next := addressesIn(t, answer.Body)
	before := next()
	c, told := eventful()
	c.AddService("shop", "new", "172.30.0.110")
	for range 2 { // the second time it is the same
		if err := p.show(c.New(), New(c.New(), "lab", told)); err != nil {
			t.Fatal(err)
		}
	}
	if after := next(); after != before+1 {
		t.Errorf("it tells of %d addresses, want one more than %d", after, before)
	}
	c.AddService("shop", "newer", "172.30.0.111")
	if err := p.show(c.New(), New(c.New(), "lab", told)); err != nil {
		t.Fatal(err)
	}
	if after := next(); after != before+2 {
		t.Errorf("it tells of %d addresses, want two more than %d: what has not changed is not sent", after, before)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	_, _ = io.Copy(io.Discard, answer.Body) // which hangs if the stream does not end
}

// When the API server is gone the page shows what it knew, and says so.
func TestLost(t *testing.T) {
	away := false
	api := fake.NewClientBuilder().WithScheme(kube.NewScheme()).WithObjects(&v1alpha1.IPAddressPool{}).WithInterceptorFuncs(interceptor.Funcs{
		List: func(ctx context.Context, w client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if away {
				return errors.New("connection refused")
			}
			return w.List(ctx, list, opts...)
		},
	}).Build()
	p := newPage("lab", clustertest.Install)
	if err := p.look(t.Context(), api); err != nil {
		t.Fatal(err)
	}
	away = true
	err := p.look(t.Context(), api)
	if err == nil {
		t.Fatal("it read what is not there")
	}
	p.lost(err)
	if document, _ := p.current(); !strings.Contains(string(document), "connection refused") {
		t.Errorf("it does not say so: %s", document)
	}
	away = false
	if err := p.look(t.Context(), api); err != nil {
		t.Fatal(err)
	}
	if document, _ := p.current(); strings.Contains(string(document), "connection refused") {
		t.Errorf("it is back, and the page says %s", document)
	}
}
