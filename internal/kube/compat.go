package kube

import (
	"net/netip"
	"regexp"

	corev1 "k8s.io/api/core/v1"
)

// This file reads what earlier versions wrote for people because there was no field for
// it. It is the only place that may, and can be deleted one release after the fields exist.

// grantPattern matches an address in the message of an AddressAssigned condition, or of a
// claim's Ready condition, before there was a record (v0.1).
var grantPattern = regexp.MustCompile(`([0-9a-f.:]+) (?:of IPAddressClaim "[^"]*", )?from pool "([^"]+)"`)

// assignmentInMessage returns the pools of the addresses that the Service's AddressAssigned
// condition names.
func assignmentInMessage(svc *corev1.Service) map[netip.Addr]string {
	c := AssignedCondition(svc)
	if c == nil {
		return nil
	}
	return poolsInMessage(c.Message)
}

// poolsInMessage returns the pools of the addresses that a condition's message names.
func poolsInMessage(message string) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for _, m := range grantPattern.FindAllStringSubmatch(message, -1) {
		if a, err := netip.ParseAddr(m[1]); err == nil {
			out[a] = m[2]
		}
	}
	return out
}
