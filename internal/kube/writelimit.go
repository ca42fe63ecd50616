package kube

import (
	"sync"
	"time"
)

// WriteLimit allows at most one write of each object per interval. Changes that come in
// between are written together at the end of it.
type WriteLimit struct {
	interval time.Duration

	mu      sync.Mutex // guards the field below
	written map[string]time.Time
}

// NewWriteLimit returns a WriteLimit under which nothing was written yet.
func NewWriteLimit(interval time.Duration) *WriteLimit {
	return &WriteLimit{interval: interval, written: map[string]time.Time{}}
}

// Wait returns how long the next write of the object must wait; it may be written now if
// that is not positive.
func (w *WriteLimit) Wait(object string, now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.written[object].Add(w.interval).Sub(now)
}

// Written records a write of the object.
func (w *WriteLimit) Written(object string, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.written[object] = now
}

// Forget drops an object that was deleted.
func (w *WriteLimit) Forget(object string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.written, object)
}
