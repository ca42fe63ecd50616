package e2e

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// A node's clock that is off is told of that node alone, by its Speaker and the
// doctor, and no more when it is fixed.
func TestNodesClock(t *testing.T) {
	c := cluster.corner(t)
	c.plugin(t, "version") // which builds it: that takes longer than any answer
	view := c.viewOfAPI(t, c.Node("n2"), lab.Speaker)
	view.ahead.Store(int64(90 * time.Second))
	c.restartSpeaker(t, "n2", "--kubeconfig", view.kubeconfig)
	t.Cleanup(func() { c.restartSpeaker(t, "n2") })
	n2 := c.untilClock(t, "n2", false, v1alpha1.ReasonClockOff,
		"1m30s ahead of the API server's", "announcing does not depend on it", "chronyc tracking, timedatectl")
	c.until(t, n2, func() error {
		return errors.Join(says(n2.Status.Conditions, v1alpha1.ConditionClockInSync, false, v1alpha1.ReasonClockOff),
			says(n2.Status.Conditions, ready, true, v1alpha1.ReasonAnnouncing))
	})
	c.untilClock(t, "n1", true, v1alpha1.ReasonInSync)
	c.untilClock(t, "n3", true, v1alpha1.ReasonInSync)
	c.doctor(t, "node n2", "1m30s ahead of the API server's", "ClockInSync is False, ClockOff", "on node n2", "NTP servers")

	view.ahead.Store(int64(-10 * time.Minute))
	c.order(t, n2)
	c.untilClock(t, "n2", false, v1alpha1.ReasonClockOff, "10m behind the API server's")

	view.ahead.Store(0)
	c.order(t, n2)
	c.untilClock(t, "n2", true, v1alpha1.ReasonInSync)
	if view.watches.Load() == 0 {
		t.Error("the speaker watches nothing by way of the proxy, so another clock was looked at")
	}
}

// The plugin says that the clock where it runs is off.
func TestPluginsClock(t *testing.T) {
	c := cluster.corner(t)
	view := c.viewOfAPI(t, c.ControlPlane, lab.Admin)
	view.ahead.Store(int64(time.Hour))
	const says = "this machine: its clock is 1h ahead of the API server's"
	if out := c.plugin(t, "doctor", "--kubeconfig", view.kubeconfig); !strings.Contains(out, says) {
		t.Errorf("the doctor does not say %q", says)
	}
	view.ahead.Store(0)
	if out := c.plugin(t, "doctor", "--kubeconfig", view.kubeconfig); strings.Contains(out, "this machine") {
		t.Error("the doctor speaks of a clock that is right")
	}
}

// untilClock waits until a Speaker says that of its node's clock.
func (c *corner) untilClock(t *testing.T, node string, ok bool, reason string, words ...string) *v1alpha1.Speaker {
	t.Helper()
	sp := &v1alpha1.Speaker{ObjectMeta: meta1(node)}
	c.until(t, sp, func() error { return says(sp.Status.Conditions, v1alpha1.ConditionClockInSync, ok, reason, words...) })
	return sp
}

// order has a speaker do what it answers by a request. It hears of the order by a
// watch.
func (c *corner) order(t *testing.T, sp *v1alpha1.Speaker) {
	t.Helper()
	c.change(t, sp, func() { metav1.SetMetaDataAnnotation(&sp.ObjectMeta, v1alpha1.AnnotationRebalance, "now") })
}

// restartSpeaker stops a node's speaker, and starts it with these flags.
func (c *corner) restartSpeaker(t *testing.T, node string, flags ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*soon) // that of the test has ended in a cleanup
	defer cancel()
	must(t, c.Process("speaker-"+node).Stop(ctx))
	p, err := c.StartSpeaker(ctx, node, flags...)
	must(t, err)
	must(t, p.Ready(ctx))
}

// viewOfAPI is the API server as a host sees it whose clock is off: namespaces have no
// clocks of their own, so it is the dates of the answers that are moved, by a proxy on
// the host's loopback.
type viewOfAPI struct {
	kubeconfig string
	ahead      atomic.Int64 // how far the host's clock is ahead, a time.Duration
	watches    atomic.Int64 // answers that were the beginning of a watch
}

func (c *corner) viewOfAPI(t *testing.T, from *lab.Host, user string) *viewOfAPI {
	t.Helper()
	v := &viewOfAPI{kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	cfg := c.REST(user)
	target, err := url.Parse(cfg.Host)
	must(t, err)
	way, err := restclient.TransportFor(cfg)
	must(t, err)
	var listener net.Listener
	must(t, from.Do(func() (err error) {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	}))
	silent := log.New(io.Discard, "", 0) // a watch that its client ends is no error
	server := &http.Server{ErrorLog: silent, Handler: &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:      way,
		FlushInterval:  -1, // an event of a watch goes on at once
		ModifyResponse: v.move,
		ErrorLog:       silent,
	}}
	go server.Serve(listener)
	t.Cleanup(func() { must(t, server.Close()) })

	config, err := clientcmd.LoadFromFile(c.Kubeconfig(user))
	must(t, err)
	for _, to := range config.Clusters {
		to.Server, to.CertificateAuthorityData = "http://"+listener.Addr().String(), nil
	}
	must(t, clientcmd.WriteToFile(*config, v.kubeconfig))
	return v
}

// move moves the date of an answer.
func (v *viewOfAPI) move(res *http.Response) error {
	date, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		return err
	}
	res.Header.Set("Date", date.Add(-time.Duration(v.ahead.Load())).Format(http.TimeFormat))
	if res.Request.URL.Query().Has("watch") {
		v.watches.Add(1)
	}
	return nil
}
