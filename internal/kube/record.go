package kube

import (
	"encoding/json"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/config"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// AssignedAddress is one address in the record of a Service's assignment
// (v1alpha1.AnnotationAssignment).
type AssignedAddress struct {
	Address string `json:"address"`
	Pool    string `json:"pool"`
	Claim   string `json:"claim,omitempty"`  // the IPAddressClaim that lends the address
	Picked  string `json:"picked,omitempty"` // the reason why it is this address
}

// Record is what the controller assigned to a Service, in the order of the status.
//
// Tenants can write annotations, so a record is trusted only for a Service that has the
// AddressAssigned condition, which they cannot write, and it never adds an address to
// what the status has or had (ADR 0050).
type Record []AssignedAddress

// RecordOf returns the record on the Service; none if the Service has no AddressAssigned
// condition, and none if the annotation cannot be parsed.
func RecordOf(svc *corev1.Service) Record {
	text, ok := svc.Annotations[v1alpha1.AnnotationAssignment]
	if !ok || AssignedCondition(svc) == nil {
		return nil
	}
	var r Record
	if json.Unmarshal([]byte(text), &r) != nil {
		return nil
	}
	return r
}

// each yields the entries whose addresses can be parsed, in order.
func (r Record) each() iter.Seq2[netip.Addr, AssignedAddress] {
	return func(yield func(netip.Addr, AssignedAddress) bool) {
		for _, e := range r {
			if a, err := config.Address(e.Address); err == nil && !yield(a, e) {
				return
			}
		}
	}
}

// Of returns the entry of an address, the first if there are several.
func (r Record) Of(a netip.Addr) (AssignedAddress, bool) {
	for addr, e := range r.each() {
		if addr == a {
			return e, true
		}
	}
	return AssignedAddress{}, false
}

// Addresses returns the addresses of the record, in order.
func (r Record) Addresses() (out []netip.Addr) {
	for a := range r.each() {
		out = append(out, a)
	}
	return out
}

// SetRecord makes the record on the Service that of the decision. Why an address was
// picked stays as it was recorded when it was assigned.
func SetRecord(svc *corev1.Service, d lb.Decision) {
	if len(d.Grants) == 0 {
		delete(svc.Annotations, v1alpha1.AnnotationAssignment)
		return
	}
	before := RecordOf(svc)
	record := make(Record, 0, len(d.Grants))
	for i, g := range d.Grants {
		e := AssignedAddress{Address: g.Addr.String(), Pool: g.Pool, Claim: g.Claim}
		if i < len(d.Picked) && d.Picked[i] != lb.ReasonKept {
			e.Picked = d.Picked[i].String()
		}
		if old, ok := before.Of(g.Addr); ok && old.Claim == g.Claim {
			e.Picked = old.Picked
		}
		record = append(record, e)
	}
	text, err := json.Marshal(record)
	if err != nil {
		panic(fmt.Sprintf("a record that cannot be JSON: %v", err))
	}
	if svc.Annotations == nil {
		svc.Annotations = map[string]string{}
	}
	svc.Annotations[v1alpha1.AnnotationAssignment] = string(text)
}

// Overwritten reports whether the status lacks an address that was assigned: another
// controller removed it, as our own writes change both at once.
func Overwritten(svc *corev1.Service) bool {
	has := IngressAddresses(svc)
	return slices.ContainsFunc(RecordOf(svc).Addresses(), func(a netip.Addr) bool { return !slices.Contains(has, a) })
}

// RecordedPools returns the pools of addresses in the Service's status, as recorded when
// they were assigned. It is what is left of a pool that was edited while no controller
// ran.
func RecordedPools(svc *corev1.Service) map[netip.Addr]string {
	record := RecordOf(svc)
	if record == nil {
		return assignmentInMessage(svc)
	}
	out := map[netip.Addr]string{}
	for a, e := range record.each() {
		if _, known := out[a]; !known {
			out[a] = e.Pool
		}
	}
	return out
}
