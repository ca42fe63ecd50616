package lb

import (
	"cmp"
	"slices"
)

// Labels are an object's labels, sorted by key. A map would take five times the
// memory, and a speaker keeps those of every Service.
type Labels []Label

// Label is one of them.
type Label struct{ Key, Value string }

// LabelsOf returns the labels that are in the map.
func LabelsOf(m map[string]string) Labels {
	if len(m) == 0 {
		return nil
	}
	out := make(Labels, 0, len(m))
	for k, v := range m {
		out = append(out, Label{k, v})
	}
	slices.SortFunc(out, func(x, y Label) int { return cmp.Compare(x.Key, y.Key) })
	return out
}

// Lookup returns the value of the label with the key, and whether there is one.
func (l Labels) Lookup(key string) (value string, found bool) {
	i, found := slices.BinarySearchFunc(l, key, func(x Label, key string) int { return cmp.Compare(x.Key, key) })
	if !found {
		return "", false
	}
	return l[i].Value, true
}
