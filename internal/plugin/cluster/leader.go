package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// leaseSpare is how much longer than its term a lease may be old: clocks differ.
const leaseSpare = 15 * time.Second

// Leaderless returns why no controller is active, so that no addresses are assigned, with
// the evidence. It returns nothing when one is, and when the Lease may not be read.
func (c *Cluster) Leaderless() (why, evidence string) {
	switch l := c.Lease; {
	case l == nil && slices.ContainsFunc(c.Unread, func(s string) bool { return strings.HasPrefix(s, "Lease ") }):
		return "", ""
	case l == nil:
		return "no controller has ever been active", fmt.Sprintf("there is no Lease %s/fairlead-controller", c.Install.Namespace)
	case ptr.Deref(l.Spec.HolderIdentity, "") == "":
		return "no controller is active (the last one stopped)", fmt.Sprintf("Lease %s/%s has no holder", l.Namespace, l.Name)
	default:
		renewed := ptr.Deref(l.Spec.RenewTime, metav1.MicroTime{}).Time
		lasts := time.Duration(ptr.Deref(l.Spec.LeaseDurationSeconds, 0)) * time.Second
		if c.Read.Sub(renewed) <= lasts+leaseSpare {
			return "", ""
		}
		return "no controller is active (the last one is gone, or cannot reach the API server)",
			fmt.Sprintf("%s renewed Lease %s/%s %s ago", *l.Spec.HolderIdentity, l.Namespace, l.Name, c.Age(metav1.NewTime(renewed)))
	}
}

// ControllerFix is what to do when no controller is active.
func (c *Cluster) ControllerFix() string {
	return fmt.Sprintf("check that the controller runs: kubectl get pods -n %s, and its log", c.Install.Namespace)
}
