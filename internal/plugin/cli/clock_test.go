package cli

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// dated is an API server whose answers have that date.
type dated time.Time

func (d dated) RoundTrip(*http.Request) (*http.Response, error) {
	date := time.Time(d).UTC().Format(http.TimeFormat)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Date": {date}}, Body: http.NoBody}, nil
}

// nothing is a cluster without objects.
type nothing struct{ client.Reader }

func (nothing) List(context.Context, client.ObjectList, ...client.ListOption) error { return nil }

func (nothing) Get(_ context.Context, key client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
	return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
}

// Where this machine's clock is off, ages are told by the API server's.
func TestReadByTheServersClock(t *testing.T) {
	for _, ahead := range []time.Duration{0, time.Hour, -time.Hour} {
		o := New(nil, genericiooptions.NewTestIOStreamsDiscard())
		res, err := o.clock.Wrap(dated(time.Now().Add(-ahead))).RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		c, err := o.Read(t.Context(), nothing{})
		if err != nil {
			t.Fatal(err)
		}
		if behind := time.Since(c.Read); c.Ahead != ahead || (behind-ahead).Abs() > time.Minute {
			t.Errorf("%v ahead of the API server's: it says %v, and that the cluster was read %v ago", ahead, c.Ahead, behind)
		}
	}
}
