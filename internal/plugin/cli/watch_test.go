package cli

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		streams, _, out, _ := genericiooptions.NewTestIOStreams()
		ctx, cancel := context.WithCancel(t.Context())
		began, times := time.Now(), 0
		err := New(genericclioptions.NewConfigFlags(false), streams).Watch(ctx, 2*time.Second, func() (Report, error) {
			if times++; times == 3 {
				cancel()
			}
			return &greeting{To: "you"}, nil
		})
		if err != nil {
			t.Errorf("the user has seen enough, and it says %v", err)
		}
		if n := strings.Count(out.String(), "hello you"); n != 2 || time.Since(began) != 4*time.Second {
			t.Errorf("it was shown %d times in %v, want twice, and no more when the user is gone after 4 s", n, time.Since(began))
		}
	})
}

func TestWatchEndsWithAnError(t *testing.T) {
	lost := errors.New("the API server is away")
	o := New(genericclioptions.NewConfigFlags(false), genericiooptions.NewTestIOStreamsDiscard())
	if err := o.Watch(t.Context(), time.Hour, func() (Report, error) { return nil, lost }); !errors.Is(err, lost) {
		t.Errorf("got %v, want %v", err, lost)
	}
}
