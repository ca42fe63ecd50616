package reach

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// network takes connections but for a time, in which it refuses them or says nothing.
type network struct {
	began      time.Time
	from, till time.Duration // no answer
	refuses    bool
}

func (n *network) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	switch since := time.Since(n.began); {
	case since < n.from || since >= n.till:
		ours, theirs := net.Pipe()
		return ours, theirs.Close()
	case n.refuses:
		return nil, errors.New("connection refused")
	default:
		<-ctx.Done()
		return nil, ctx.Err()
	}
}

var to = netip.MustParseAddrPort("192.0.2.1:80")

func TestMeasure(t *testing.T) {
	const whole = 2 * time.Second
	for name, c := range map[string]struct {
		network network
		want    Report
	}{
		"always there":    {network{}, Report{100, 100, 0}},
		"silent":          {network{from: 490 * time.Millisecond, till: 790 * time.Millisecond}, Report{100, 85, 300 * time.Millisecond}},
		"refuses":         {network{from: 490 * time.Millisecond, till: 790 * time.Millisecond, refuses: true}, Report{100, 85, 300 * time.Millisecond}},
		"one lost":        {network{from: 500 * time.Millisecond, till: 501 * time.Millisecond}, Report{100, 99, Every}},
		"gone at the end": {network{from: 1500 * time.Millisecond, till: time.Hour}, Report{100, 75, 500 * time.Millisecond}},
		"never there":     {network{till: time.Hour}, Report{100, 0, whole}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.network.began = time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), whole-time.Millisecond)
				defer cancel()
				if got := Measure(ctx, &c.network, to); got != c.want {
					t.Errorf("got %+v, want %+v", got, c.want)
				}
			})
		})
	}
}

// An attempt has its answer in time, or none.
func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := Once(t.Context(), &network{began: began, till: time.Hour}, to)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != Patience {
			t.Errorf("after %v it says %v", time.Since(began), err)
		}
		if err := Once(t.Context(), &network{}, to); err != nil {
			t.Error(err)
		}
	})
}
