package doctor

import (
	"fmt"
	"time"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/clockcheck"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
)

// clocks finds nodes whose clocks are off, as their speakers say, and whether this
// machine's is. All that is known of a clock is how far it is from the API server's.
func clocks(c *cluster.Cluster) (out []Finding) {
	if f := serversClock(c); f != nil {
		out = append(out, *f)
	} else {
		out = unwell(c, Warning, v1alpha1.ConditionClockInSync, func(node, _ string) string {
			return fmt.Sprintf("fix NTP on node %s: chronyc tracking, timedatectl; NTP servers must be able to answer it (UDP port 123). The speaker checks again within a minute", node)
		})
	}
	if c.Ahead != 0 {
		out = append(out, Finding{
			Severity: Note, About: []string{"this machine"},
			Says: "its clock is " + clockcheck.Words(c.Ahead) + " the API server's, so ages shown here are wrong",
			Fix:  "fix NTP on it: chronyc tracking, timedatectl",
		})
	}
	return out
}

// serversClock finds that it is the API server's clock that is off: several nodes are
// as far from it, and none that knows is not.
func serversClock(c *cluster.Cluster) *Finding {
	var offsets []time.Duration
	var evidence []string
	for i := range c.Speakers {
		s := &c.Speakers[i]
		if _, alive := c.View.Speakers[s.Name]; !alive || s.Status.ClockOffset == nil {
			continue
		}
		ahead := s.Status.ClockOffset.Duration
		if ahead == 0 || len(offsets) > 0 && !clockcheck.Alike(ahead, offsets[0]) {
			return nil
		}
		offsets = append(offsets, ahead)
		if len(evidence) < few {
			evidence = append(evidence, fmt.Sprintf("Speaker %s: its node's clock is %s the API server's", s.Name, clockcheck.Words(ahead)))
		}
	}
	if len(offsets) < 2 {
		return nil
	}
	return &Finding{
		Severity: Warning, About: []string{"API server"},
		Says: fmt.Sprintf("its clock is %s those of all %s, which agree; announcing does not depend on it, but TLS, tokens and all times in logs and status do",
			clockcheck.Words(-offsets[0]), term.Count(len(offsets), "node", "nodes")),
		Evidence: evidence,
		Fix:      "fix NTP on the node of the API server: chronyc tracking, timedatectl",
	}
}
