// Package v1alpha1 is Fairlead's API: the objects that users write, and the
// status that Fairlead writes.
//
// Mistakes that can be detected in one object alone are validation rules of its
// type. The API server checks them, so that kubectl reports the mistake with
// the fix. Mistakes that involve another object, such as two pools that overlap
// or a reference to an object that does not exist, are conditions.
//
// +kubebuilder:object:generate=true
// +groupName=fairlead.dev
package v1alpha1
