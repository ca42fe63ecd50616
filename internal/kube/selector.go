package kube

import (
	"fmt"
	"maps"
	"slices"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// operators maps the API's operators to the domain's.
var operators = map[v1alpha1.LabelSelectorOperator]lb.Operator{
	v1alpha1.LabelSelectorOpIn:           lb.In,
	v1alpha1.LabelSelectorOpNotIn:        lb.NotIn,
	v1alpha1.LabelSelectorOpExists:       lb.Exists,
	v1alpha1.LabelSelectorOpDoesNotExist: lb.DoesNotExist,
}

// selectors parses a list of selectors. Its errors begin with the index, "[2]…".
func selectors(in []v1alpha1.LabelSelector) ([]lb.Selector, error) {
	var out []lb.Selector
	for i := range in {
		s, err := selector(&in[i])
		if err != nil {
			return nil, fmt.Errorf("[%d]%w", i, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// selector parses one selector into terms in a fixed order.
func selector(in *v1alpha1.LabelSelector) (lb.Selector, error) {
	out := lb.Selector{}
	for _, k := range slices.Sorted(maps.Keys(in.MatchLabels)) {
		out = append(out, lb.Requirement{Key: k, Operator: lb.In, Values: []string{string(in.MatchLabels[k])}})
	}
	for i, e := range in.MatchExpressions {
		op, ok := operators[e.Operator]
		if !ok {
			return nil, fmt.Errorf(".matchExpressions[%d].operator: %q is not one of In, NotIn, Exists, DoesNotExist", i, e.Operator)
		}
		out = append(out, lb.Requirement{Key: string(e.Key), Operator: op, Values: texts(e.Values)})
	}
	return out, nil
}
