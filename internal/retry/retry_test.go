package retry

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, tt := range []struct {
			d, want time.Duration
			ends    bool
		}{
			{time.Second, time.Second, false},
			{0, 0, false},
			{-time.Second, 0, false},
			{time.Hour, 59 * time.Second, true}, // with the context
			{time.Hour, 0, true},
			{0, 0, true},
		} {
			began := time.Now()
			err := Sleep(ctx, tt.d)
			if got := time.Since(began); got != tt.want || errors.Is(err, context.DeadlineExceeded) != tt.ends {
				t.Errorf("Sleep(%s) took %s and returned %v; want %s, and the end of the context: %t", tt.d, got, err, tt.want, tt.ends)
			}
		}
	})
}

func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		var failures []error
		failed := func(err error) { failures = append(failures, err) }
		attempts := 0
		began := time.Now()
		err := Until(t.Context(), time.Second, func(context.Context) error {
			if attempts++; attempts < 3 {
				return broken
			}
			return nil
		}, failed)
		if took := time.Since(began); err != nil || attempts != 3 || len(failures) != 2 || took != 2*time.Second {
			t.Errorf("%d attempts in %s, %v failed, and Until returned %v; want 3 in 2s, of which 2 failed", attempts, took, failures, err)
		}

		ctx, cancel := context.WithCancel(t.Context())
		failures = nil
		err = Until(ctx, time.Hour, func(context.Context) error { cancel(); return broken }, failed)
		if !errors.Is(err, context.Canceled) || len(failures) != 0 {
			t.Errorf("with a context that ends Until returned %v, and reported %v", err, failures)
		}
		if err := Until(ctx, time.Hour, func(context.Context) error { return broken }, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("after the context has ended Until returned %v", err)
		}
	})
}
