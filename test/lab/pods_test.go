package lab_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/test/lab"
)

// TestPods: pods run and are reached by their Service, on a node that boots again
// too, and can read what they log; and a node without power runs none.
func TestPods(t *testing.T) {
	l := lab.New(t, lab.Options{Nodes: 2, Pods: true})
	svc := makeService(t, l, "web")
	web := deploy(t, l, "web", 2)
	untilAvailable(t, l, web)
	to := netip.AddrPortFrom(netip.MustParseAddr(svc.Spec.ClusterIP), 80)
	everywhere := func(from *lab.Host, nodes ...string) {
		t.Helper()
		p := from.ProbeHTTP(to, lab.ProbeOptions{Interval: 50 * time.Millisecond})
		defer p.Stop()
		lab.Eventually(t, time.Minute, func() error { // as untilAvailable: a node that boots again rolls out anew
			r := p.Report()
			for _, n := range nodes {
				if r.Nodes[n] == 0 {
					return fmt.Errorf("%s answers nothing: %v", n, r)
				}
			}
			return nil
		})
	}
	everywhere(l.Node("n1"), "n1", "n2")
	out, err := l.Kubectl(t.Context(), "logs", "deployment/web")
	must(t, err)
	if !strings.HasPrefix(string(out), "listening on tcp/8080") {
		t.Errorf("the pod's log is %q", out)
	}

	n2 := l.Node("n2")
	must(t, n2.PowerOff())
	if left := containers(t, "fl-"+l.ID+"-n2"); len(left) > 0 {
		t.Errorf("a node without power still runs processes %v", left)
	}
	must(t, n2.PowerOn(t.Context()))
	everywhere(l.Node("n1"), "n1", "n2")
	must(t, l.Close())
	assertGone(t, l.ID)
}

// deploy runs PodImage, a pod on each of so many nodes.
func deploy(t *testing.T, l *lab.Lab, name string, replicas int32) *appsv1.Deployment {
	t.Helper()
	labels := map[string]string{"app": name}
	field := func(variable, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: variable, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
	}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					Containers: []corev1.Container{{
						Name: "backend", Image: lab.PodImage, ImagePullPolicy: corev1.PullNever,
						Command: []string{"/backend", "--node", "$(NODE_NAME)", "--name", "$(POD_NAME)", "tcp/8080", "udp/8080"},
						Env:     []corev1.EnvVar{field("NODE_NAME", "spec.nodeName"), field("POD_NAME", "metadata.name")},
					}},
					TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
						MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule,
						LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
					}},
				},
			},
		},
	}
	api, err := l.API()
	must(t, err)
	must(t, api.Create(t.Context(), d))
	// A Service that was made without a selector gets the one that it needs now.
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	must(t, api.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
	svc.Spec.Selector = labels
	must(t, api.Update(t.Context(), svc))
	return d
}

func untilAvailable(t *testing.T, l *lab.Lab, d *appsv1.Deployment) {
	t.Helper()
	api, err := l.API()
	must(t, err)
	lab.Eventually(t, time.Minute, func() error {
		if err := api.Get(context.Background(), client.ObjectKeyFromObject(d), d); err != nil {
			return err
		}
		if d.Status.AvailableReplicas != *d.Spec.Replicas {
			return fmt.Errorf("%d of %d pods are available", d.Status.AvailableReplicas, *d.Spec.Replicas)
		}
		return nil
	})
}

// containers are the processes in a cgroup and those below it.
func containers(t *testing.T, cgroup string) (pids []string) {
	t.Helper()
	for _, dir := range cgroups(t, cgroup) {
		must(t, filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "cgroup.procs" {
				return nil // it may have ended meanwhile
			}
			b, err := os.ReadFile(file)
			pids = append(pids, strings.Fields(string(b))...)
			return err
		}))
	}
	return pids
}

// TestOwnerOfPodsKilled: kill -9 of its owner leaves nothing of a lab whose nodes
// run pods: neither containers nor their mounts and cgroups.
func TestOwnerOfPodsKilled(t *testing.T) {
	lab.Require(t)
	id, kill := startOwner(t, ownsPods)
	defer kill()
	l, err := lab.Open(id)
	must(t, err)
	makeService(t, l, "web")
	untilAvailable(t, l, deploy(t, l, "web", 1))
	pids := containers(t, "fl-"+id+"-n1")
	if len(pids) < 2 {
		t.Errorf("a pod that runs consists of processes %v only", pids)
	}
	kill()
	assertGone(t, id)
	for _, pid := range pids {
		if _, err := os.Stat("/proc/" + pid); err == nil {
			t.Errorf("process %s of a container is left", pid)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	if strings.Contains(string(mounts), id) {
		t.Errorf("mounts are left:\n%s", mounts)
	}
}
