package bfd

import (
	"context"
	"encoding/gob"
	"io"
	"testing"
	"testing/synctest"
)

// A child that hangs does not keep its parent from stopping, also if the parent waits for the
// child's status.
func TestStopWhileTheChildHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewChild(Config{}, "unused")
		ctx, cancel := context.WithCancel(t.Context())
		returned := make(chan struct{})
		go func() {
			defer close(returned)
			c.talk(ctx, gob.NewEncoder(io.Discard), make(chan Status), t.Context().Done())
		}()
		c.queries <- make(chan Status, 1)
		synctest.Wait() // talk waits for the status
		cancel()
		synctest.Wait()
		select {
		case <-returned:
		default:
			t.Error("talk still waits for the status after its context has ended")
		}
	})
}
