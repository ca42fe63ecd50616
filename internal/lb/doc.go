// Package lb holds the words of the load balancer's domain: Services' requests,
// pools, assignments, announcements and the reasons why one of them is missing.
//
// It exists so that the parts which decide (allocator, election, speaker) and
// the parts which act (kube, layer2, bgp) speak of the same things without
// knowing each other. It imports the standard library only.
package lb
