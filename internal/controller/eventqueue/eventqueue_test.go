package eventqueue

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairlead-lb/fairlead/internal/kube"
)

// heard is a recorder that remembers.
type heard struct {
	start time.Time
	lines []string
}

func (h *heard) Eventf(regarding, _ runtime.Object, typ, reason, action, note string, args ...any) {
	about := regarding.(*corev1.ObjectReference)
	h.lines = append(h.lines, fmt.Sprintf("%v %s %s/%s %s %s %s: ", time.Since(h.start), about.Kind, about.Namespace, about.Name, typ, reason, action)+
		fmt.Sprintf(note, args...))
}

// TestEventsWaitTheirTurn: they come in order, each after the queue gave way,
// and who caused them did not wait.
func TestEventsWaitTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		to := &heard{start: time.Now()}
		q := New(to, kube.NewScheme(), func(context.Context) { time.Sleep(time.Second) })
		go q.Start(ctx) //nolint:errcheck // never fails
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
		for i := range 2 {
			q.Eventf(svc, nil, corev1.EventTypeNormal, "Assigned", "Assign", "Assigned %d", i)
		}
		if waited := time.Since(to.start); waited > 0 {
			t.Errorf("an event kept its cause waiting for %v", waited)
		}
		time.Sleep(3 * time.Second)
		cancel()
		synctest.Wait()
		want := []string{
			"1s Service default/web Normal Assigned Assign: Assigned 0",
			"2s Service default/web Normal Assigned Assign: Assigned 1",
		}
		if !slices.Equal(to.lines, want) {
			t.Errorf("got %q, want %q", to.lines, want)
		}
	})
}
