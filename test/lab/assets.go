package lab

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// The Kubernetes binaries that a lab runs.
const (
	Etcd         = "etcd"
	APIServer    = "kube-apiserver"
	KubeProxy    = "kube-proxy"
	Kubectl      = "kubectl"
	Scheduler    = "kube-scheduler"
	Controllers  = "kube-controller-manager"
	Kubelet      = "kubelet"
	Containerd   = "containerd"
	Shim         = "containerd-shim-runc-v2"
	Ctr          = "ctr"
	Helm         = "helm"
	assetsEnv    = "FAIRLEAD_KUBE_ASSETS"
	raceEnv      = "FAIRLEAD_LAB_RACE"
	modulePath   = "github.com/fairlead-lb/fairlead"
	versionFlags = "k8s.io/component-base/version."
)

// asset says what a binary is built from: a package of a module that the go.mod in
// a folder of the repository requires.
type asset struct{ folder, module, pkg string }

var kubeAssets = map[string]asset{
	Etcd:        {"test/kube", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3"},
	APIServer:   {"test/kube", kubernetes, kubernetes + "/cmd/kube-apiserver"},
	KubeProxy:   {"test/kube", kubernetes, kubernetes + "/cmd/kube-proxy"},
	Kubectl:     {"test/kube", kubernetes, kubernetes + "/cmd/kubectl"},
	Scheduler:   {"test/kube", kubernetes, kubernetes + "/cmd/kube-scheduler"},
	Controllers: {"test/kube", kubernetes, kubernetes + "/cmd/kube-controller-manager"},
	Kubelet:     {"test/kube", kubernetes, kubernetes + "/cmd/kubelet"},
	Containerd:  {"test/containers", containers, containers + "/cmd/containerd"},
	Shim:        {"test/containers", containers, containers + "/cmd/containerd-shim-runc-v2"},
	Ctr:         {"test/containers", containers, containers + "/cmd/ctr"},
	Helm:        {"hack/chart", "helm.sh/helm/v4", "helm.sh/helm/v4/cmd/helm"},
}

const (
	kubernetes = "k8s.io/kubernetes"
	containers = "github.com/containerd/containerd/v2"
)

func assetsFor(o Options) []string {
	names := []string{Etcd, APIServer, Kubectl}
	if !o.ControlPlaneOnly {
		names = append(names, KubeProxy)
	}
	if o.Pods {
		names = append(names, Scheduler, Controllers, Kubelet, Containerd, Shim, Ctr, Helm)
	}
	return names
}

// Assets returns a folder with the named binaries; without names, those of every
// kind of lab. If FAIRLEAD_KUBE_ASSETS names a folder, it is taken as
// it is. Otherwise bin/kube of the repository is, and what is missing there, or
// is of another version than its go.mod asks for, is built first. Since
// that takes minutes it is said on standard error, whatever Options.Log is.
func Assets(ctx context.Context, names ...string) (string, error) {
	if len(names) == 0 {
		names = assetsFor(Options{Pods: true})
	}
	if dir := os.Getenv(assetsEnv); dir != "" {
		for _, name := range names {
			if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
				return "", fmt.Errorf("lab: %s=%s: %w", assetsEnv, dir, err)
			}
		}
		return filepath.Abs(dir)
	}
	repo, err := repository()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(repo, "bin", "kube")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	// One at a time: two builds at once take longer than one after the other.
	unlock, err := lockFile(filepath.Join(dir, ".lock"))
	if err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	defer unlock()
	if err := buildAssets(ctx, repo, dir, names); err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	return dir, nil
}

func buildAssets(ctx context.Context, repo, dir string, names []string) error {
	versions := map[string]string{} // of what is missing
	var missing []string
	for _, name := range names {
		a, ok := kubeAssets[name]
		if !ok {
			return fmt.Errorf("there is no binary %q to build", name)
		}
		want, err := a.pinned(repo)
		if err != nil {
			return err
		}
		if builtFrom(filepath.Join(dir, name), a.module) != want {
			missing = append(missing, name)
			versions[name] = want
		}
	}
	if len(missing) == 0 {
		return nil
	}
	fmt.Fprintf(os.Stderr, "lab: building %s into bin/kube; from nothing that takes minutes, once\n", strings.Join(missing, ", "))
	for i, name := range missing {
		fmt.Fprintf(os.Stderr, "lab: [%d/%d] %s %s\n", i+1, len(missing), name, versions[name])
		if err := buildAsset(ctx, repo, filepath.Join(dir, name), kubeAssets[name], versions[name]); err != nil {
			return err
		}
	}
	return nil
}

func buildAsset(ctx context.Context, repo, out string, a asset, version string) error {
	ldflags := "-s -w"
	if a.module == kubernetes {
		// Without these the servers call themselves v0.0.0, and clients that
		// look at the version believe them.
		major, minor, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
		minor, _, _ = strings.Cut(minor, ".")
		for key, value := range map[string]string{"gitVersion": version, "gitMajor": major, "gitMinor": minor} {
			ldflags += fmt.Sprintf(" -X %s%s=%s", versionFlags, key, value)
		}
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", ldflags, "-o", out, a.pkg)
	cmd.Dir = filepath.Join(repo, a.folder)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	_, err := output(cmd)
	return err
}

// pinned is the version of the module that the go.mod asks for.
func (a asset) pinned(repo string) (string, error) {
	gomod, err := os.ReadFile(filepath.Join(repo, a.folder, "go.mod"))
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`(?m)^\s*(?:require\s+)?` + regexp.QuoteMeta(a.module) + `\s+(v\S+)`).FindSubmatch(gomod)
	if m == nil {
		return "", fmt.Errorf("%s/go.mod does not require %s", a.folder, a.module)
	}
	return string(m[1]), nil
}

// builtFrom is the version of the module that a binary was built from, or "".
// A binary knows this by itself, which no stamp beside it can say as truly.
func builtFrom(file, module string) string {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return ""
	}
	for _, dep := range append(info.Deps, &info.Main) {
		if dep.Path == module {
			return dep.Version
		}
	}
	return ""
}

// build builds a program of the repository into bin and returns its path. With
// FAIRLEAD_LAB_RACE set, programs come with the race detector.
func build(ctx context.Context, name, pkg string) (string, error) {
	repo, err := repository()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(repo, pkg)); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	bin := filepath.Join(repo, "bin")
	// Root may build what is another user's checkout, in which git, asked for
	// the version, would refuse to work.
	args := []string{"build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w"} // as what is shipped
	env := append(os.Environ(), "CGO_ENABLED=0")
	if os.Getenv(raceEnv) != "" {
		bin = filepath.Join(bin, "race")
		args = append(args, "-race")
		env = append(os.Environ(), "CGO_ENABLED=1")
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	// Tests of several packages run at once, and none shall start a program
	// that another is half through writing.
	unlock, err := lockFile(filepath.Join(bin, ".lock"))
	if err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	defer unlock()
	out := filepath.Join(bin, name)
	cmd := exec.CommandContext(ctx, "go", append(args, "-o", out, "./"+filepath.ToSlash(pkg))...)
	cmd.Dir, cmd.Env = repo, env
	if _, err := output(cmd); err != nil {
		return "", err
	}
	return out, nil
}

// repository is the folder of the Fairlead checkout that we are in.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	for {
		gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(gomod, []byte("module "+modulePath+"\n")) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("lab: not inside a checkout of " + modulePath)
		}
		dir = parent
	}
}
