package kube

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestIngressWriter(t *testing.T) {
	entry := func(manager, subresource, fields string, minute int) metav1.ManagedFieldsEntry {
		at := metav1.NewTime(time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC))
		return metav1.ManagedFieldsEntry{Manager: manager, Subresource: subresource, Time: &at, FieldsV1: metav1.NewFieldsV1(fields)}
	}
	const (
		ingress    = `{"f:status":{"f:loadBalancer":{"f:ingress":{}}}}`
		conditions = `{"f:status":{"f:conditions":{}}}`
	)
	for name, tt := range map[string]struct {
		entries []metav1.ManagedFieldsEntry
		want    string
	}{
		"not recorded":                   {nil, ""},
		"only the spec":                  {[]metav1.ManagedFieldsEntry{entry("kubectl", "", `{"f:spec":{}}`, 1)}, ""},
		"only conditions":                {[]metav1.ManagedFieldsEntry{entry("controller", "status", conditions, 1)}, ""},
		"one writer":                     {[]metav1.ManagedFieldsEntry{entry("controller", "status", conditions, 2), entry("k3s", "status", ingress, 1)}, "k3s"},
		"two writers of the same value":  {[]metav1.ManagedFieldsEntry{entry("controller", "status", ingress, 1), entry("k3s", "status", ingress, 2)}, "k3s"},
		"the newest comes first":         {[]metav1.ManagedFieldsEntry{entry("k3s", "status", ingress, 2), entry("controller", "status", ingress, 1)}, "k3s"},
		"a field set that is not JSON":   {[]metav1.ManagedFieldsEntry{entry("odd", "status", `{"f:status":`, 1)}, ""},
		"a writer of the status, not ip": {[]metav1.ManagedFieldsEntry{entry("odd", "status", `{"f:status":{"f:loadBalancer":{}}}`, 1)}, ""},
	} {
		if got, _ := IngressWriter(&corev1.Service{ObjectMeta: metav1.ObjectMeta{ManagedFields: tt.entries}}); got != tt.want {
			t.Errorf("%s: the writer is %q, want %q", name, got, tt.want)
		}
	}
}
