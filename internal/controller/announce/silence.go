package announce

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
// Where again is not 0, there may be more of them after that time.
func (s *silences) note(unheard []string) (long []string, again time.Duration) {
	now := s.now()
	maps.DeleteFunc(s.since, func(node string, _ time.Time) bool { return !slices.Contains(unheard, node) })
	for _, node := range unheard {
		if _, known := s.since[node]; !known {
			s.since[node] = now
		}
		switch left := unheardFor - now.Sub(s.since[node]); {
		case left <= 0:
			long = append(long, node)
		default:
			again = max(again, left)
		}
	}
	return long, again
}
