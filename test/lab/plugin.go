package lab

import (
	"context"
	"path/filepath"
	"slices"
)

// Plugin runs `kubectl fairlead` as the admin, as a person would at a shell, and
// returns what it wrote to its standard output.
func (l *Lab) Plugin(ctx context.Context, args ...string) ([]byte, error) {
	bin, err := l.build(ctx, "kubectl-fairlead", "cmd/kubectl-fairlead")
	if err != nil {
		return nil, err
	}
	env := []string{"KUBECONFIG=" + l.Kubeconfig(Admin), "HOME=" + l.Dir, "PATH=" + filepath.Dir(bin)}
	return l.ControlPlane.execEnv(ctx, env, nil, slices.Concat([]string{filepath.Join(l.assets, Kubectl), "fairlead"}, args)...)
}

// StartPlugin starts `kubectl-fairlead` as the admin, for a command that runs until it is
// stopped. It runs on the control plane, as all that a person types.
func (l *Lab) StartPlugin(ctx context.Context, name string, args ...string) (*Process, error) {
	bin, err := l.build(ctx, "kubectl-fairlead", "cmd/kubectl-fairlead")
	if err != nil {
		return nil, err
	}
	return l.ControlPlane.Start(name, slices.Concat([]string{bin}, args, []string{"--kubeconfig", l.Kubeconfig(Admin)})...)
}
