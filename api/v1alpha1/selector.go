package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// LabelSelector has the JSON format of metav1.LabelSelector. It is a separate
// type because that one has no length limits, without which validation rules
// exceed the API server's cost budget. Invalid selectors would then be stored.
//
// The keys of a map cannot have a length limit, so that a regular expression on
// them exceeds the budget too. The rule therefore checks one character at a
// time. It accepts a few invalid keys (with a second slash, or a prefix in
// upper case), which Selector refuses.

// LabelSelector selects objects by their labels: those that have all of
// matchLabels and meet all of matchExpressions. An empty selector selects all.
//
// +structType=atomic
// +kubebuilder:validation:XValidation:rule=`!has(self.matchLabels) || self.matchLabels.all(k, k.size() > 0 && k.size() <= 317 && [k.charAt(0), k.charAt(k.size() - 1)].all(c, (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9')) && [0, 100, 200, 300].all(h, h >= k.size() || [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].all(t, h + 10 * t >= k.size() || [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].all(u, h + 10 * t + u >= k.size() || [k.charAt(h + 10 * t + u)].all(c, (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9') || c in ['-', '_', '.', '/'])))))`,fieldPath=`.matchLabels`,message=`matchLabels has a key that cannot be the name of a label; write keys like "tier" or "example.com/tier"`
type LabelSelector struct {
	// matchLabels are labels that the object must have, each with exactly this
	// value. Example: {"tier": "public"}.
	//
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	MatchLabels map[string]LabelValue `json:"matchLabels,omitempty"`

	// matchExpressions are requirements that the object's labels must all meet.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	MatchExpressions []LabelSelectorRequirement `json:"matchExpressions,omitempty"`
}

// LabelSelectorRequirement is a requirement on one label. Example: {"key":
// "tier", "operator": "In", "values": ["a", "b"]}.
// +kubebuilder:validation:XValidation:rule=`!(self.operator in ['In', 'NotIn']) || has(self.values) && self.values.size() > 0`,fieldPath=`.values`,messageExpression=`'operator ' + (self.operator == 'In' ? 'In' : 'NotIn') + ' needs values; write at least one in values, or operator ' + (self.operator == 'In' ? 'Exists' : 'DoesNotExist') + ' for any'`
// +kubebuilder:validation:XValidation:rule=`!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || self.values.size() == 0`,fieldPath=`.values`,messageExpression=`'operator ' + (self.operator == 'Exists' ? 'Exists' : 'DoesNotExist') + ' takes no values; leave values out, or write operator ' + (self.operator == 'Exists' ? 'In' : 'NotIn')`
type LabelSelectorRequirement struct {
	// key is the label's name. Example: "kubernetes.io/hostname".
	//
	// +required
	Key LabelKey `json:"key"`

	// operator is In (the label's value is in values), NotIn (it is not in values,
	// or the object does not have the label), Exists (the object has the label) or
	// DoesNotExist (the object does not have the label).
	//
	// +required
	Operator LabelSelectorOperator `json:"operator"`

	// values are the values for In and NotIn; leave them out with Exists and
	// DoesNotExist.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Values []LabelValue `json:"values,omitempty"`
}

// LabelKey is the name of a label, with an optional prefix: "tier" or
// "example.com/tier".
//
// +kubebuilder:validation:MaxLength=317
// +kubebuilder:validation:XValidation:rule=`self.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$')`,messageExpression=`'"' + self + '" cannot be the name of a label; write one like "tier" or "example.com/tier"'`
type LabelKey string

// LabelValue is the value of a label.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule=`self.matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')`,messageExpression=`'"' + self + '" cannot be the value of a label; write letters, digits, "-", "_" and ".", a letter or digit first and last'`
type LabelValue string

// LabelSelectorOperator is the operator of a requirement.
//
// +kubebuilder:validation:Enum=In;NotIn;Exists;DoesNotExist
type LabelSelectorOperator string

// The operators of a label selector.
const (
	LabelSelectorOpIn           LabelSelectorOperator = "In"
	LabelSelectorOpNotIn        LabelSelectorOperator = "NotIn"
	LabelSelectorOpExists       LabelSelectorOperator = "Exists"
	LabelSelectorOpDoesNotExist LabelSelectorOperator = "DoesNotExist"
)

// Meta converts the selector to the type of the Kubernetes libraries.
func (s *LabelSelector) Meta() *metav1.LabelSelector {
	if s == nil {
		return nil
	}
	out := &metav1.LabelSelector{}
	if len(s.MatchLabels) > 0 {
		out.MatchLabels = make(map[string]string, len(s.MatchLabels))
		for k, v := range s.MatchLabels {
			out.MatchLabels[k] = string(v)
		}
	}
	for _, e := range s.MatchExpressions {
		r := metav1.LabelSelectorRequirement{Key: string(e.Key), Operator: metav1.LabelSelectorOperator(e.Operator)}
		for _, v := range e.Values {
			r.Values = append(r.Values, string(v))
		}
		out.MatchExpressions = append(out.MatchExpressions, r)
	}
	return out
}

// Selector parses the selector. It fails for the invalid keys that the
// validation rule accepts, and for objects that were not validated.
func (s *LabelSelector) Selector() (labels.Selector, error) {
	return metav1.LabelSelectorAsSelector(s.Meta())
}
