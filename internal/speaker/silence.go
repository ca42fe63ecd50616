package speaker

import (
	"maps"
	"slices"
	"time"
)

// unheardFor is how long this speaker has not heard another, while the others do,
// before it says so: packets are lost now and then.
const unheardFor = 5 * time.Second

// silences are the speakers that are alive and that this one does not hear itself, as
// when a firewall stands between the two.
type silences struct {
	now   func() time.Time
	since map[string]time.Time // node -> when it was first found not to be heard
}

// note takes in who is not heard now, and returns those who have not been for long.
func (s *silences) note(unheard []string) (long []string) {
	now := s.now()
	maps.DeleteFunc(s.since, func(node string, _ time.Time) bool { return !slices.Contains(unheard, node) })
	for _, node := range unheard {
		if _, known := s.since[node]; !known {
			s.since[node] = now
		}
		if now.Sub(s.since[node]) >= unheardFor {
			long = append(long, node)
		}
	}
	return long
}
