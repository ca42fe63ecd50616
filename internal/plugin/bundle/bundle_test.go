package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/plugin/clustertest"
)

// secret is what must be nowhere in an archive.
const secret = "correct-horse"

// archived returns the files of the archive, by name.
func archived(t *testing.T, packed []byte) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for r := tar.NewReader(zip); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if head.Mode != 0o600 {
			t.Errorf("%s has mode %o", head.Name, head.Mode)
		}
		out[head.Name] = string(body)
	}
}

func TestBundle(t *testing.T) {
	objects := clustertest.Small()
	objects.Peer("router", "n1").Spec.PasswordSecret = &v1alpha1.PasswordSecret{Name: "bgp"}
	svc := objects.Service("shop", "web")
	svc.Annotations = map[string]string{
		corev1.LastAppliedConfigAnnotation: secret, "example.com/token": secret, v1alpha1.AnnotationAddressPool: "lan",
	}
	svc.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl-edit"}}
	objects.AddService("shop", "internal").Spec.Type = corev1.ServiceTypeClusterIP
	m := more{
		pods: []corev1.Pod{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: "speaker-x"},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "speaker", Env: []corev1.EnvVar{{Name: "TOKEN", Value: secret}}}}},
		}},
		secrets: []metav1.PartialObjectMetadata{{ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: "bgp", Annotations: map[string]string{"a": secret}}}},
		logs:    []file{{"logs/speaker-x-speaker.log", []byte("a line\n")}},
	}
	known := objects.New()
	known.Unread = []string{"Events: forbidden"}
	files, err := contents(known, m)
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	if err := write(&packed, "fairlead-bundle", files, known.Read); err != nil {
		t.Fatal(err)
	}
	got := archived(t, packed.Bytes())
	for name, body := range got {
		for _, bad := range []string{secret, "kubectl-edit"} {
			if strings.Contains(body, bad) {
				t.Errorf("%s has %q", name, bad)
			}
		}
	}
	for name, words := range map[string][]string{
		"objects/services.yaml":          {"kind: Service", "name: web", "fairlead.dev/address-pool: lan"},
		"objects/speakers.yaml":          {"kind: Speaker", "name: n3", "apiVersion: fairlead.dev/v1alpha1"},
		"objects/bgppeers.yaml":          {"passwordSecret"},
		"objects/pods.yaml":              {"TOKEN", "(left out)"},
		"objects/secrets-names-only.txt": {"fairlead-system/bgp"},
		"logs/speaker-x-speaker.log":     {"a line"},
		"status.txt":                     {"POOL"},
		"doctor.txt":                     {"checks"},
		"addresses.txt":                  {"172.30.0.100"},
		"unread.txt":                     {"Events: forbidden"},
		"version.txt":                    {"plugin"},
	} {
		body, there := got[path.Join("fairlead-bundle", name)]
		if !there || slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(body, w) }) {
			t.Errorf("%s is there: %t, want %q in it:\n%s", name, there, words, body)
		}
	}
	if strings.Contains(got["fairlead-bundle/objects/services.yaml"], "name: internal") {
		t.Error("a Service that is no load balancer is in it")
	}
	if svc.Annotations[corev1.LastAppliedConfigAnnotation] == "" {
		t.Error("to pack an object has changed it")
	}
}
