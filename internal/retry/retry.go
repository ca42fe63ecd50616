// Package retry waits between attempts, and ends with the context.
package retry

import (
	"context"
	"time"
)

// Sleep returns after d, or earlier with the context's error when that ends.
func Sleep(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil || d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Until calls attempt until it returns nil, with a pause of d after each failure. failed, which
// may be nil, gets the error of each. Until returns the context's error when that ends first.
func Until(ctx context.Context, d time.Duration, attempt func(context.Context) error, failed func(error)) error {
	for {
		err := attempt(ctx)
		if err == nil {
			return nil
		}
		if failed != nil && ctx.Err() == nil {
			failed(err)
		}
		if err := Sleep(ctx, d); err != nil {
			return err
		}
	}
}
