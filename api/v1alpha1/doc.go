// Package v1alpha1 is Fairlead's API: the objects a person writes, and the
// status Fairlead writes back.
//
// Every refusal that one object alone can decide is a rule on its type,
// checked by the API server, so that a mistake is answered where it is made
// and in words that say what to write instead. What takes a second object to
// decide (two pools that overlap, a name that nobody has) is a condition.
//
// +kubebuilder:object:generate=true
// +groupName=fairlead.dev
package v1alpha1
