package lb

import "slices"

// Scope says which addresses are announced, and from which nodes.
type Scope struct {
	// AllPools or Pools say whose addresses are announced: pools chosen by
	// label are among the names.
	AllPools bool
	Pools    []string
	// Empty lists of selectors do not narrow.
	ServiceSelectors []Selector
	NodeSelectors    []Selector
}

// SelectsPool reports whether the scope has addresses of the pool.
func (s *Scope) SelectsPool(name string) bool { return s.AllPools || slices.Contains(s.Pools, name) }

// Selects reports whether the scope has this grant of a Service with these labels.
func (s *Scope) Selects(g Grant, labels Labels) bool {
	return s.SelectsPool(g.Pool) && (len(s.ServiceSelectors) == 0 || MatchesAny(s.ServiceSelectors, labels))
}

// SelectsNode reports whether the scope has the node.
func (s *Scope) SelectsNode(labels Labels) bool {
	return len(s.NodeSelectors) == 0 || MatchesAny(s.NodeSelectors, labels)
}
