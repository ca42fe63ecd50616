package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// frrDaemons is the folder of FRR's programs, on Debian.
const frrDaemons = "/usr/lib/frr"

// frr is FRR with all that it keeps inside of the lab's folder.
//
// Its programs insist on /run/frr and /var/tmp, and on a user of their own who
// cannot see into the lab's folder. So they get a mount namespace in which
// those two are the lab's. It goes with the last of them, and a lab more or
// less on this machine makes no difference.
type frr struct{ *Router }

// frrStart prepares the mounts and becomes the daemon.
const frrStart = `set -e
mkdir -p /run/frr
mount --bind "$1/run" /run/frr
mount --bind "$1/tmp" /var/tmp
shift
exec "$@"`

func (f frr) needs() []Package { return frrPackages }

func (f frr) configFile() string { return "frr.conf" }

func (f frr) daemons() []string { return []string{"zebra", "bfdd", "bgpd"} }

func (f frr) start(ctx context.Context) error {
	if err := f.makeFolders(); err != nil {
		return err
	}
	for _, daemon := range f.daemons() {
		name := daemon + "-" + f.Name
		if old := f.lab.Process(name); old != nil && !old.exited() {
			continue
		}
		p, err := f.Host.Start(name, "unshare", "--mount", "sh", "-c", frrStart, "frr", f.dir(),
			filepath.Join(frrDaemons, daemon),
			"--config_file", "/dev/null", // vtysh hands it out, see load
			"--vty_port", "0", "--log", "stdout", "--log-level", "informational")
		if err != nil {
			return err
		}
		// bgpd and bfdd look for zebra once, and then not for seconds.
		err = p.wait(ctx, "listening", func(ctx context.Context) error {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "unix", f.file("run/"+daemon+".vty"))
			if err == nil {
				_ = conn.Close()
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return f.load(ctx)
}

// makeFolders makes what the daemons' user and vtysh write into.
func (f frr) makeFolders() error {
	out, err := run(context.Background(), "id", "-u", "frr")
	if err != nil {
		return err
	}
	var uid int
	if _, err := fmt.Sscan(string(out), &uid); err != nil {
		return fmt.Errorf("id of user frr: %w", err)
	}
	for _, dir := range []string{"run", "tmp"} {
		if err := os.MkdirAll(f.file(dir), 0o755); err != nil {
			return err
		}
		if err := os.Chown(f.file(dir), uid, -1); err != nil {
			return err
		}
	}
	return os.WriteFile(f.file("vtysh.conf"), nil, 0o600)
}

// load has vtysh read the file and hand each daemon what is for it, which is
// what FRR's own service does.
func (f frr) load(ctx context.Context) error {
	out, err := f.vtysh(ctx, "-f", f.file(f.configFile()))
	return frrComplaint(out, err)
}

// reload lets FRR's own tool find out what is different.
func (f frr) reload(ctx context.Context) error {
	// It exits with 0 whatever happens to single lines, but it logs them.
	out, err := f.Exec(ctx, filepath.Join(frrDaemons, "frr-reload.py"), "--reload", "--stdout",
		"--confdir", f.dir(), "--rundir", f.file("tmp"), "--vty_socket", f.file("run"), f.file(f.configFile()))
	return frrComplaint(out, err)
}

func (f frr) command(ctx context.Context, commands ...string) ([]byte, error) {
	var args []string
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	out, err := f.vtysh(ctx, args...)
	return out, frrComplaint(out, err)
}

func (f frr) vtysh(ctx context.Context, args ...string) ([]byte, error) {
	return f.Exec(ctx, append(f.vtyshArgs(), args...)...)
}

func (f frr) vtyshArgs() []string {
	return []string{"vtysh", "--vty_socket", f.file("run"), "--config_dir", f.dir(), "--histfile", f.file("history")}
}

func (f frr) shell() string { return "'" + strings.Join(f.vtyshArgs(), "' '") + "'" }

// frrComplaint makes an error of what FRR only says: a line that begins with %.
func frrComplaint(out []byte, err error) error {
	var complaints []string
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "%") || strings.HasPrefix(line, "line ") {
			complaints = append(complaints, line)
		}
	}
	if len(complaints) == 0 {
		return err
	}
	if err == nil {
		return fmt.Errorf("FRR says: %s", strings.Join(complaints, "; "))
	}
	return fmt.Errorf("%w; FRR says: %s", err, strings.Join(complaints, "; "))
}
