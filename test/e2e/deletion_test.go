package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/test/lab"
)

// Where the controller was removed first, deletions hang: the doctor names the objects, and
// the commands that it gives release them.
func TestDoctorReleasesHangingDeletions(t *testing.T) {
	c := control.corner(t)
	running := c.controller(t)
	pool := c.pool(t, c.freshName("lan"), "192.0.2.0/28")
	svc := c.service(t, "web")
	c.addresses(t, svc)
	claim := c.claim(t, "kept", claimFrom(pool.Name))
	c.reserved(t, claim, pool.Name, "192.0.2.1")
	c.held(t, pool)
	stopAll(t, running)
	hanging := []client.Object{pool, claim}
	for _, o := range hanging {
		must(t, c.api.Delete(t.Context(), o))
	}

	var commands []string
	lab.Eventually(t, soon, func() error {
		var r struct {
			Findings []struct {
				Check string   `json:"check"`
				About []string `json:"about"`
				Fix   string   `json:"fix"`
			} `json:"findings"`
		}
		if err := c.answer(t, &r, "doctor"); err != nil {
			return err
		}
		commands = nil
		var about []string
		for _, f := range r.Findings {
			if f.Check != "deletion" {
				continue
			}
			about = append(about, f.About...)
			_, command, _ := strings.Cut(f.Fix, "remove the finalizer: kubectl ")
			commands = append(commands, command)
		}
		for _, want := range []string{"IPAddressPool " + pool.Name, "IPAddressClaim " + claim.Namespace + "/" + claim.Name} {
			if !slices.Contains(about, want) {
				return fmt.Errorf("the doctor names %q, want %q among them", about, want)
			}
		}
		return nil
	})
	for _, command := range commands {
		t.Logf("kubectl %s", command)
		options, patch, _ := strings.Cut(command, " -p ")
		_, err := c.Kubectl(t.Context(), append(strings.Fields(options), "-p", strings.Trim(patch, "'"))...)
		must(t, err)
	}
	for _, o := range hanging {
		c.untilGone(t, o)
	}
}
