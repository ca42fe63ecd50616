package kube

import (
	"testing"
	"time"
)

func TestWriteLimit(t *testing.T) {
	start := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	w := NewWriteLimit(time.Second)
	if wait := w.Wait("a", start); wait > 0 {
		t.Errorf("the first write waits %v", wait)
	}
	w.Written("a", start)
	for _, tt := range []struct {
		object string
		after  time.Duration
		want   time.Duration
	}{
		{"a", 0, time.Second},
		{"a", 400 * time.Millisecond, 600 * time.Millisecond},
		{"a", time.Second, 0},
	} {
		if got := w.Wait(tt.object, start.Add(tt.after)); got != tt.want {
			t.Errorf("%s waits %v, %v after the last write; want %v", tt.object, got, tt.after, tt.want)
		}
	}
	if wait := w.Wait("b", start); wait > 0 {
		t.Errorf("the write of another object waits %v", wait)
	}
	w.Forget("a")
	if wait := w.Wait("a", start); wait > 0 {
		t.Errorf("after its deletion, an object of the same name waits %v", wait)
	}
}
