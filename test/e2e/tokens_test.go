package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// A token of the speaker's ServiceAccount is good for the Speaker object of the node
// that the token is bound to, and for no other: with the admission policy that the
// chart and the plain manifests install, a stolen token cannot write what another
// speaker reports.
func TestStolenSpeakerToken(t *testing.T) {
	own := &shared{options: lab.Options{Nodes: 2}, prepare: func(l *lab.Lab, ctx context.Context) error {
		if err := l.Install(ctx); err != nil {
			return err
		}
		return l.Apply(ctx, "../../config/deploy") // nothing runs the pods that it asks for
	}}
	t.Cleanup(func() { must(t, own.stop(t.Failed())) })
	c := own.corner(t)
	boundToPod(t, c, "n1")
	must(t, c.BoundSpeaker(t.Context(), "speaker@n2", &corev1.Node{ObjectMeta: meta1("n2")}))
	untilPolicyInForce(t, c)
	_, err := c.StartController(t.Context())
	must(t, err)
	for _, n := range c.Nodes { // the second --kubeconfig is the one that counts
		p, err := c.StartSpeaker(t.Context(), n.Name, "--kubeconfig", c.Kubeconfig("speaker@"+n.Name))
		must(t, err)
		must(t, p.Ready(t.Context()))
		untilReady(t, c, n.Name)
	}

	n1, n2, unbound, admin := userClient(t, c, "speaker@n1"), userClient(t, c, "speaker@n2"), userClient(t, c, lab.Speaker), userClient(t, c, lab.Admin)
	const toNothing, otherNode, noOrders = "is not bound to a node", "may write only Speaker n1, not Speaker", "but not add or change any"
	for _, tt := range []struct {
		name    string
		user    client.Client
		write   func(context.Context, client.Client) error
		refused string // words of the refusal; "" if it works
	}{
		{"its own status", n1, forgeStatus("n1"), ""},
		{"its own status, with a token bound to the node", n2, forgeStatus("n2"), ""},
		{"another node's status", n1, forgeStatus("n2"), otherNode + " n2"},
		{"another node's status by server-side apply", n1, applyStatus("n2"), otherNode + " n2"},
		{"an order for another node", n1, annotateSpeaker("n2", v1alpha1.AnnotationDrain), otherNode + " n2"},
		{"a Speaker of a node that has none", n1, createSpeaker("n3"), otherNode + " n3"},
		{"an order for itself", n1, annotateSpeaker("n1", v1alpha1.AnnotationTake), noOrders},
		{"a status, with a token bound to nothing", unbound, forgeStatus("n1"), toNothing},
		{"an order by an administrator", admin, annotateSpeaker("n1", v1alpha1.AnnotationTake), ""},
		{"a Speaker by an administrator", admin, createSpeaker("n3"), ""},
		{"deletion by an administrator", admin, deleteSpeaker("n3"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.write(t.Context(), tt.user)
			switch {
			case tt.refused == "":
				must(t, err)
			case !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), tt.refused):
				t.Errorf("got %v, want Forbidden with %q", err, tt.refused)
			}
		})
	}

	// The speaker still removes an order that it has carried out.
	sp := &v1alpha1.Speaker{ObjectMeta: meta1("n1")}
	c.until(t, sp, func() error {
		if _, there := sp.Annotations[v1alpha1.AnnotationTake]; there {
			return fmt.Errorf("the order is still there: %v", sp.Annotations)
		}
		return nil
	})
}

// boundToPod makes the user speaker@NODE, whose token is that of a pod on the node.
func boundToPod(t *testing.T, c *corner, node string) {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: "fairlead-speaker-" + node},
		Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: "fairlead-speaker",
			Containers: []corev1.Container{{Name: "speaker", Image: "fairlead"}},
		},
	}
	must(t, c.api.Create(t.Context(), pod))
	must(t, c.BoundSpeaker(t.Context(), "speaker@"+node, pod))
}

// untilPolicyInForce waits until the API server has compiled the policy, a second after it was
// created.
func untilPolicyInForce(t *testing.T, c *corner) {
	t.Helper()
	n1 := userClient(t, c, "speaker@n1")
	lab.Eventually(t, soon, func() error {
		err := n1.Create(t.Context(), &v1alpha1.Speaker{ObjectMeta: meta1("nobody")}, client.DryRunAll)
		if apierrors.IsForbidden(err) {
			return nil
		}
		return fmt.Errorf("create Speaker nobody by n1: %w, want it refused", err)
	})
}

func untilReady(t *testing.T, c *corner, node string) {
	t.Helper()
	sp := &v1alpha1.Speaker{ObjectMeta: meta1(node)}
	c.until(t, sp, func() error {
		if !meta.IsStatusConditionTrue(sp.Status.Conditions, v1alpha1.ConditionReady) {
			return fmt.Errorf("Speaker %s: %s", node, told(sp.Status.Conditions))
		}
		return nil
	})
}

// userClient is a client of a user of the lab.
func userClient(t *testing.T, c *corner, user string) client.Client {
	t.Helper()
	api, err := client.New(c.REST(user), client.Options{Scheme: c.api.Scheme()})
	must(t, err)
	return api
}

// forgeStatus reports that a host outside of the cluster has an address.
func forgeStatus(node string) func(context.Context, client.Client) error {
	return func(ctx context.Context, api client.Client) error {
		status := `{"status":{"conflicts":[{"address":"172.30.0.100","interface":"eth0","mac":"02:00:00:00:00:99"}]}}`
		return api.Status().Patch(ctx, &v1alpha1.Speaker{ObjectMeta: meta1(node)}, client.RawPatch("application/merge-patch+json", []byte(status)))
	}
}

func applyStatus(node string) func(context.Context, client.Client) error {
	return func(ctx context.Context, api client.Client) error {
		sp := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"version": "forged"}}}
		sp.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Speaker"))
		sp.SetName(node)
		return api.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(sp), client.FieldOwner("forger"), client.ForceOwnership)
	}
}

func annotateSpeaker(node, annotation string) func(context.Context, client.Client) error {
	return func(ctx context.Context, api client.Client) error {
		patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:"172.30.0.100"}}}`, annotation)
		return api.Patch(ctx, &v1alpha1.Speaker{ObjectMeta: meta1(node)}, client.RawPatch("application/merge-patch+json", []byte(patch)))
	}
}

func createSpeaker(node string) func(context.Context, client.Client) error {
	return func(ctx context.Context, api client.Client) error {
		return api.Create(ctx, &v1alpha1.Speaker{ObjectMeta: meta1(node)})
	}
}

func deleteSpeaker(node string) func(context.Context, client.Client) error {
	return func(ctx context.Context, api client.Client) error {
		return api.Delete(ctx, &v1alpha1.Speaker{ObjectMeta: meta1(node)})
	}
}
