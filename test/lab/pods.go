package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// cniPlugins is where Debian's containernetworking-plugins are.
const cniPlugins = "/usr/lib/cni"

// nodeUp is how long a node may take to run pods; a busy machine needs it.
const nodeUp = 2 * time.Minute

// startManagers starts what gives pods their nodes, and keeps everything as it
// was asked for.
func (l *Lab) startManagers() error {
	file := func(name string) string { return filepath.Join(l.Dir, name) }
	_, err := l.ControlPlane.Start(Scheduler, filepath.Join(l.assets, Scheduler),
		"--kubeconfig", l.Kubeconfig(scheduler), "--leader-elect=false", "--secure-port", "0")
	if err != nil {
		return err
	}
	_, err = l.ControlPlane.Start(Controllers, filepath.Join(l.assets, Controllers),
		"--kubeconfig", l.Kubeconfig(manager), "--leader-elect=false", "--secure-port", "0",
		"--use-service-account-credentials",
		"--service-account-private-key-file", file("serviceaccount.key"), "--root-ca-file", file("ca.crt"),
		// Nodes have their pods' addresses from the lab's plan.
		"--allocate-node-cidrs=false",
		"--flex-volume-plugin-dir", file("plugins"))
	return err
}

// startRuntime boots a node, and starts containerd with the lab's images.
func (l *Lab) startRuntime(ctx context.Context, h *Host) error {
	if err := h.writeRuntimeConfig(); err != nil {
		return err
	}
	if err := h.boot(ctx); err != nil {
		return err
	}
	p, err := h.start(Containerd+"-"+h.Name, h.within(), filepath.Join(l.assets, Containerd), "--config", h.file("containerd.toml"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, nodeUp)
	defer cancel()
	err = p.wait(ctx, "ready", func(ctx context.Context) error {
		_, err := h.ctr(ctx, "version")
		return err
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	images := append([]Image(nil), l.images...)
	l.mu.Unlock()
	for _, i := range images {
		if err := h.load(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// StartKubelet starts the node's kubelet, for the first time or after Kill, and
// waits until its node is ready for pods.
func (h *Host) StartKubelet(ctx context.Context) error {
	l := h.lab
	p, err := h.start(kubelet+"-"+h.Name, h.within(), filepath.Join(l.assets, Kubelet),
		"--kubeconfig", l.Kubeconfig(kubelet), "--config", h.file("kubelet.yaml"),
		"--hostname-override", h.Name, "--node-ip", h.IPv4.String()+","+h.IPv6.String())
	if err != nil {
		return err
	}
	api, err := l.API()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, nodeUp)
	defer cancel()
	began := time.Now()
	return p.wait(ctx, "ready", func(ctx context.Context) error {
		var node corev1.Node
		if err := api.Get(ctx, client.ObjectKey{Name: h.Name}, &node); err != nil {
			return err
		}
		return takesPods(&node, began)
	})
}

// takesPods says why a node does not take pods by the word of a kubelet that was
// started then, if it does not.
func takesPods(node *corev1.Node, started time.Time) error {
	for _, t := range node.Spec.Taints {
		if t.Key != corev1.TaintNodeUnschedulable {
			return fmt.Errorf("node %s has the taint %s", node.Name, t.Key)
		}
	}
	for _, c := range node.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if c.Status != corev1.ConditionTrue {
			return fmt.Errorf("node %s is not ready: %s", node.Name, c.Message)
		}
		if c.LastHeartbeatTime.Time.Before(started.Truncate(time.Second)) {
			return fmt.Errorf("node %s has not been heard of since its kubelet was started", node.Name)
		}
		return nil
	}
	return fmt.Errorf("node %s has reported nothing yet", node.Name)
}

// LoadImages puts images on every node, those that boot later included.
func (l *Lab) LoadImages(ctx context.Context, images ...Image) error {
	if !l.opts.Pods {
		return errors.New("load images: nodes of this lab run no pods: start it with Options.Pods")
	}
	l.mu.Lock()
	l.images = append(l.images, images...)
	l.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	for _, h := range l.Nodes {
		g.Go(func() error {
			for _, i := range images {
				if err := h.load(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func (h *Host) load(ctx context.Context, i Image) error {
	if _, err := h.ctr(ctx, "--namespace", "k8s.io", "images", "import", i.Archive); err != nil {
		return fmt.Errorf("load %s on %s: %w", i.Name, h.Name, err)
	}
	return nil
}

// ctr runs containerd's command on a node.
func (h *Host) ctr(ctx context.Context, args ...string) ([]byte, error) {
	return h.execBorn(ctx, h.within(), nil, nil, append([]string{filepath.Join(h.lab.assets, Ctr)}, args...)...)
}

// writeRuntimeConfig writes what containerd, its network plugins and the kubelet
// read when they start.
func (h *Host) writeRuntimeConfig() error {
	if err := os.MkdirAll(h.file("cni"), 0o700); err != nil {
		return err
	}
	kubelet, err := yaml.Marshal(h.kubeletConfig())
	if err != nil {
		return err
	}
	cni, err := json.MarshalIndent(h.cniConfig(), "", "  ")
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"containerd.toml": fmt.Appendf(nil, containerdConfig, PodImage, h.file("cni"), cniPlugins),
		"kubelet.yaml":    kubelet, "cni/lab.conflist": cni,
	} {
		if err := os.WriteFile(h.file(name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// containerdConfig lacks the image of empty pods, and the folders of the network's
// configuration and plugins.
const containerdConfig = `version = 3

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = %q

[plugins.'io.containerd.cri.v1.runtime']
# Not every root may make a process less likely to be killed than it is itself.
restrict_oom_score_adj = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
conf_dir = %q
bin_dirs = [%q]

# What it would make in /opt.
[plugins.'io.containerd.internal.v1.opt']
path = '/var/lib/containerd/opt'

[plugins.'io.containerd.nri.v1.nri']
disable = true
`

type object = map[string]any

// kubeletConfig asks nobody who may read logs: that is the lab's own network.
func (h *Host) kubeletConfig() object {
	return object{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
		"failCgroupV1":             false,
		"cgroupDriver":             "cgroupfs",
		"cgroupRoot":               h.cgroup(),
		"enforceNodeAllocatable":   []string{},
		"authentication":           object{"anonymous": object{"enabled": true}, "webhook": object{"enabled": false}},
		"authorization":            object{"mode": "AlwaysAllow"},
		"makeIPTablesUtilChains":   false,
		"failSwapOn":               false,
		"resolvConf":               "", // the machine's is not the lab's
		"volumePluginDir":          "/var/lib/kubelet/plugins",
		"podLogsDir":               filepath.Join(h.lab.Dir, "logs", "pods-"+h.Name),
		// The machine's disk and memory are not the node's.
		"localStorageCapacityIsolation": false,
		"imageGCHighThresholdPercent":   100,
		"evictionHard":                  object{"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%", "imagefs.inodesFree": "0%"},
	}
}

// cniConfig gives each pod a cable of its own, as AddBackend does: all that a pod
// sends goes through the node's network stack, and so through kube-proxy's rules.
func (h *Host) cniConfig() object {
	subnet := func(p netip.Prefix) []object { return []object{{"subnet": p.String()}} }
	return object{
		"cniVersion": "1.0.0", "name": "lab",
		"plugins": []object{{
			"type": "ptp",
			"ipam": object{
				"type":   "host-local",
				"ranges": [][]object{subnet(podCIDR4(h.node)), subnet(podCIDR6(h.node))},
				"routes": []object{{"dst": "0.0.0.0/0"}, {"dst": "::/0"}},
			},
		}},
	}
}
