// Package kube translates between Kubernetes objects and the domain's words.
//
// What users wrote is parsed here, once; errors name the field or annotation.
// The functions are pure; the few that write say so.
package kube
