package lb

import (
	"testing"

	"pgregory.net/rapid"
)

func TestLabelsAreThoseOfTheMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SampledFrom([]string{"", "a", "app", "app.kubernetes.io/name", "zone"})
		m := rapid.MapOf(keys, rapid.String()).Draw(t, "labels")
		labels, key := LabelsOf(m), keys.Draw(t, "key")
		want, has := m[key]
		if got, found := labels.Lookup(key); got != want || found != has || len(labels) != len(m) {
			t.Fatalf("%q: %q, %v in %v", key, got, found, labels)
		}
	})
}
