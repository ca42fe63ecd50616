// Package importer writes Fairlead's configuration from another load balancer's:
// MetalLB's, kube-vip's, Cilium's.
//
// What has a counterpart is translated, field by field. What has none is said in
// a comment that names the object and the field, and what to do about it: who
// moves to Fairlead reads what changes before it does. The translation is a pure
// function of the objects; reading and applying them is around it.
package importer
