package lab

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// joinNode makes a host a node of the cluster.
func (l *Lab) joinNode(ctx context.Context, h *Host) error {
	if err := l.createNode(ctx, h); err != nil {
		return fmt.Errorf("join %s: %w", h.Name, err)
	}
	return l.startNode(ctx, h)
}

// startNode starts what a node's machine runs, be it for the first time.
func (l *Lab) startNode(ctx context.Context, h *Host) error {
	if !l.opts.Pods {
		return l.startKubeProxy(ctx, h)
	}
	if err := l.startRuntime(ctx, h); err != nil {
		return err
	}
	if err := h.StartKubelet(ctx); err != nil {
		return err
	}
	return l.startKubeProxy(ctx, h)
}

// createNode writes the Node: all that a kubelet would report, unless one does.
func (l *Lab) createNode(ctx context.Context, h *Host) error {
	api, err := l.API()
	if err != nil {
		return err
	}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: h.Name, Labels: map[string]string{
			corev1.LabelHostname: h.Name, corev1.LabelOSStable: "linux",
		}},
		Spec: corev1.NodeSpec{
			PodCIDR:  podCIDR4(h.node).String(),
			PodCIDRs: []string{podCIDR4(h.node).String(), podCIDR6(h.node).String()},
		},
	}
	if err := api.Create(ctx, node); err != nil || l.opts.Pods {
		return err
	}
	before := node.DeepCopy()
	now := metav1.Now()
	node.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: h.IPv4.String()},
		{Type: corev1.NodeInternalIP, Address: h.IPv6.String()},
		{Type: corev1.NodeHostName, Address: h.Name},
	}
	node.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "LabReady",
		LastHeartbeatTime: now, LastTransitionTime: now,
	}}
	return api.Status().Patch(ctx, node, client.MergeFrom(before))
}

// startKubeProxy starts kube-proxy on a node and waits until it has written
// its rules.
func (l *Lab) startKubeProxy(ctx context.Context, h *Host) error {
	const healthz = "127.0.0.1:10256"
	p, err := h.Start("kube-proxy-"+h.Name, filepath.Join(l.assets, KubeProxy),
		"--kubeconfig", l.Kubeconfig(kubeProxy), "--hostname-override", h.Name,
		"--proxy-mode", "nftables", "--cluster-cidr", podCIDRs,
		"--healthz-bind-address", healthz, "--metrics-bind-address", "127.0.0.1:10249",
		// 0 leaves the limits of connection tracking as they are: they belong
		// to the machine, not to the namespace.
		"--conntrack-max-per-core", "0",
		"--conntrack-tcp-timeout-established", "0s", "--conntrack-tcp-timeout-close-wait", "0s")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return p.wait(ctx, "healthy", func(ctx context.Context) error {
		return h.get(ctx, "http://"+healthz+"/healthz")
	})
}
