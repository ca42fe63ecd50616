package lab

import (
	"fmt"
	"os"
	"path/filepath"
)

// writeWrappers fills the lab's bin folder with a command for each host, sw for
// the switch, and kubectl, for a person at a shell.
func (l *Lab) writeWrappers() error {
	for _, h := range append(l.Hosts(), l.sw) {
		script := fmt.Sprintf(`#!/bin/sh
# Run a command on %[1]s of lab %[2]s; without one, a shell.
[ $# -gt 0 ] || set -- "${SHELL:-/bin/sh}"
exec nsenter --net='%[3]s/%[4]s' -- env %[5]s='%[2]s' %[6]s='%[1]s' "$@"
`, h.Name, l.ID, netnsDir, h.NS, envLab, envHost)
		if err := l.writeWrapper(WrapperName(h.Name), script); err != nil {
			return err
		}
	}
	for _, r := range l.Routers() {
		script := fmt.Sprintf("#!/bin/sh\n# The shell of router %s of lab %s.\nexec %s \"$@\"\n", r.Name, l.ID, r.software.shell())
		if err := l.writeWrapper(r.Name+"-shell", script); err != nil {
			return err
		}
	}
	repo, err := repository()
	if err != nil {
		return err
	}
	script := fmt.Sprintf(`#!/bin/sh
# kubectl for lab %[1]s, as its admin.
PATH='%[2]s':$PATH # for plugins
exec nsenter --net='%[3]s/%[4]s' -- env %[5]s='%[1]s' PATH="$PATH" KUBECONFIG='%[6]s' '%[7]s' "$@"
`, l.ID, filepath.Join(repo, "bin"), netnsDir, l.ControlPlane.NS, envLab, l.Kubeconfig(Admin), filepath.Join(l.assets, Kubectl))
	return l.writeWrapper("kubectl", script)
}

// WrapperName is the command for a host. The control plane's is not its name,
// cp: whoever has the folder in PATH still wants to copy files.
func WrapperName(host string) string {
	if host == "cp" {
		return "controlplane"
	}
	return host
}

func (l *Lab) writeWrapper(name, script string) error {
	return os.WriteFile(filepath.Join(l.Dir, "bin", name), []byte(script), 0o700)
}
