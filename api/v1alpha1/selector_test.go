package v1alpha1_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

func TestLabelSelectorMeta(t *testing.T) {
	selector := &v1alpha1.LabelSelector{
		MatchLabels: map[string]v1alpha1.LabelValue{"tier": "public"},
		MatchExpressions: []v1alpha1.LabelSelectorRequirement{
			{Key: "zone", Operator: v1alpha1.LabelSelectorOpIn, Values: []v1alpha1.LabelValue{"a", "b"}},
			{Key: "gpu", Operator: v1alpha1.LabelSelectorOpDoesNotExist},
		},
	}
	want := &metav1.LabelSelector{
		MatchLabels: map[string]string{"tier": "public"},
		MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: "zone", Operator: metav1.LabelSelectorOpIn, Values: []string{"a", "b"}},
			{Key: "gpu", Operator: metav1.LabelSelectorOpDoesNotExist},
		},
	}
	if diff := cmp.Diff(want, selector.Meta()); diff != "" {
		t.Errorf("Meta (-want +got):\n%s", diff)
	}
}

func TestLabelSelectorSelects(t *testing.T) {
	for name, c := range map[string]struct {
		selector *v1alpha1.LabelSelector
		labels   labels.Set
		want     bool
		why      string
	}{
		"nil":         {nil, labels.Set{"tier": "public"}, false, "no selector chooses nothing"},
		"empty":       {&v1alpha1.LabelSelector{}, labels.Set{"tier": "public"}, true, "an empty selector chooses all"},
		"label":       {&v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"tier": "public"}}, labels.Set{"tier": "public"}, true, "the label has the value"},
		"other value": {&v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"tier": "public"}}, labels.Set{"tier": "private"}, false, "the label has another value"},
		"expression": {&v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelSelectorRequirement{
			{Key: "tier", Operator: v1alpha1.LabelSelectorOpNotIn, Values: []v1alpha1.LabelValue{"public"}},
		}}, labels.Set{}, true, "a label that is not there is in no list"},
	} {
		t.Run(name, func(t *testing.T) {
			selector, err := c.selector.Selector()
			if err != nil {
				t.Fatal(err)
			}
			if got := selector.Matches(c.labels); got != c.want {
				t.Errorf("it matches: %t, but %s", got, c.why)
			}
		})
	}

	// What the rules of the API let through, because they cannot afford to look closer.
	bad := &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"a/b/c": ""}}
	if _, err := bad.Selector(); err == nil {
		t.Error("a label name with two slashes was accepted")
	}
}
