package ui

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/explain"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
)

// How often the cluster is looked at.
const (
	atMost  = 300 * time.Millisecond // between two looks, however much happens
	atLeast = 5 * time.Second        // some things become wrong without that an object changes
)

// page is what all browsers that look at it are shown.
type page struct {
	name    string // of the cluster
	install cluster.Install

	mu       sync.Mutex
	cluster  *cluster.Cluster // guarded by mu, as all below
	document []byte
	next     chan struct{} // is closed when there is another document
}

func newPage(name string, in cluster.Install) *page {
	return &page{name: name, install: in, next: make(chan struct{})}
}

// follow shows the cluster until ctx ends: when it has changed, and every so often.
func (p *page) follow(ctx context.Context, from client.Reader, changed <-chan struct{}) error {
	tick := time.NewTicker(atLeast)
	defer tick.Stop()
	for {
		began := time.Now()
		if err := p.look(ctx, from); err != nil && ctx.Err() == nil {
			p.lost(err)
		}
		// A large cluster is looked at less often: it is not all that the machine has to do.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(atMost, 2*time.Since(began))):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
		}
	}
}

// look reads the cluster, and shows it if it has changed.
func (p *page) look(ctx context.Context, from client.Reader) error {
	objects, err := cluster.Read(ctx, from, p.install)
	if err != nil {
		return err
	}
	var events corev1.EventList
	if err := from.List(ctx, &events); err != nil {
		objects.Unread = append(objects.Unread, fmt.Sprintf("Events: %v", err))
	}
	c := cluster.New(objects, p.install)
	return p.show(c, New(c, p.name, events.Items))
}

// lost shows why the cluster can no longer be read, beside what was read last.
func (p *page) lost(err error) {
	p.mu.Lock()
	c := p.cluster
	p.mu.Unlock()
	if c == nil {
		return // nothing was shown yet: the command ends with the error
	}
	d := New(c, p.name, nil)
	d.Unread = append(d.Unread, err.Error())
	_ = p.show(c, d) // it could be written when it was read
}

// show has all browsers shown the document, if it is another.
func (p *page) show(c *cluster.Cluster, d *Document) error {
	body, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("write the document: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cluster = c
	if string(body) == string(p.document) {
		return nil
	}
	p.document = body
	close(p.next)
	p.next = make(chan struct{})
	return nil
}

// current returns the document, and what is closed when there is another.
func (p *page) current() (document []byte, next <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.document, p.next
}

// explain returns what `kubectl fairlead explain address` would print.
func (p *page) explain(a netip.Addr) string {
	p.mu.Lock()
	c := p.cluster
	p.mu.Unlock()
	var b strings.Builder
	explain.Address(c, a).Text(term.NewPage(&b), false)
	return b.String()
}
