package lb

import "slices"

// Operator is how a Requirement compares a label. The zero Operator is none.
type Operator uint8

// The operators of a Kubernetes label selector.
const (
	In Operator = iota + 1
	NotIn
	Exists
	DoesNotExist
)

// Requirement is one term of a Selector.
type Requirement struct {
	Key      string
	Operator Operator
	Values   []string
}

// Selector matches labels that meet all its requirements. An empty Selector
// matches everything, as in Kubernetes.
type Selector []Requirement

// Matches reports whether labels meet every requirement.
func (s Selector) Matches(labels Labels) bool {
	for _, r := range s {
		v, has := labels.Lookup(r.Key)
		switch r.Operator {
		case In:
			if !has || !slices.Contains(r.Values, v) {
				return false
			}
		case NotIn:
			if has && slices.Contains(r.Values, v) {
				return false
			}
		case Exists:
			if !has {
				return false
			}
		case DoesNotExist:
			if has {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// MatchesAny reports whether one of the selectors matches. No selectors match
// nothing; whether an empty list means "all" is for the caller to say.
func MatchesAny(selectors []Selector, labels Labels) bool {
	return slices.ContainsFunc(selectors, func(s Selector) bool { return s.Matches(labels) })
}
