package lab

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

//go:embed machine.sh
var machineScript string

// boot gives a node process ids and mounts of its own, beside its network.
func (h *Host) boot(ctx context.Context) error {
	if err := h.makeCgroups(); err != nil {
		return fmt.Errorf("boot %s: %w", h.Name, err)
	}
	p, err := h.start(h.machineName(), h.asFirst, "sh", "-c", machineScript, "fairlead-lab-machine", h.lab.Dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return p.wait(ctx, "up", func(context.Context) error { return p.said("up\n") })
}

// asFirst starts a command as the first process of namespaces of its own.
func (h *Host) asFirst(cmd *exec.Cmd) error {
	newNamespaces(cmd)
	return h.Do(cmd.Start)
}

// within starts commands on a booted node, among its processes and mounts.
func (h *Host) within() birth {
	machine := h.lab.Process(h.machineName())
	return func(cmd *exec.Cmd) error {
		if machine == nil {
			return fmt.Errorf("%s runs no pods", h.Name)
		}
		return h.Do(func() error {
			if err := enterMachine(machine.PID); err != nil {
				return fmt.Errorf("enter %s: %w", h.Name, err)
			}
			return cmd.Start()
		})
	}
}

// PodProcesses are the processes in the node's pods, by this machine's count, whose
// program is at that path in its image.
func (h *Host) PodProcesses(path string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// One that has ended meanwhile has neither.
		program, _ := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		groups, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cgroup"))
		if program == path && bytes.Contains(groups, []byte(":"+h.cgroup()+"/")) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func (h *Host) machineName() string { return "machine-" + h.Name }

// cgroup is below which those of the node's pods are, in each hierarchy.
func (h *Host) cgroup() string { return "/" + h.lab.namespace(h.Name) }

const (
	cgroups = "/sys/fs/cgroup"
	// controllers are what a kubelet asks for.
	controllers = "+cpu +cpuset +io +memory +pids"
)

// makeCgroups makes that of the node, which its kubelet expects to be there.
func (h *Host) makeCgroups() error {
	if _, err := os.Stat(cgroups + "/cgroup.controllers"); err == nil { // one hierarchy for all
		if err := os.WriteFile(cgroups+"/cgroup.subtree_control", []byte(controllers), 0); err != nil {
			return err
		}
		return os.MkdirAll(cgroups+h.cgroup(), 0o755)
	}
	members, err := filepath.Glob(cgroups + "/*/cgroup.procs")
	if err == nil && len(members) == 0 {
		err = errors.New("this machine has no cgroups in " + cgroups)
	}
	for _, m := range members {
		err = errors.Join(err, os.MkdirAll(filepath.Dir(m)+h.cgroup(), 0o755))
	}
	return err
}

// file is one in the node's own part of the lab's folder.
func (h *Host) file(name string) string { return filepath.Join(h.lab.Dir, "node-"+h.Name, name) }
