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
