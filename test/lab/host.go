package lab

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Host is a machine of the lab: a network namespace with a cable to the switch.
type Host struct {
	Name string
	NS   string // name of the namespace, as in `ip netns`
	IPv4 netip.Addr
	IPv6 netip.Addr
	MAC  net.HardwareAddr // of eth0

	lab     *Lab
	node    int    // 1 for n1; 0 if this is no node
	machine string // for a pod: the name of the node it runs on
	behind  *Host  // the router that its cable ends at; nil if that is the switch
	routes  bool   // it is a router, with a network behind it
	network int    // the number of that network
}

// Do runs f in the host's namespace. Sockets that f makes stay there; only
// goroutines that f starts do not run there.
func (h *Host) Do(f func() error) error {
	result := make(chan error, 1)
	go func() {
		// The thread is never unlocked: it ends with this goroutine, so that no
		// other one can find itself in a foreign namespace.
		runtime.LockOSThread()
		err := errors.New("the function did not return") // t.FailNow, for one
		defer func() { result <- err }()
		if err = enterNetns(netnsDir + "/" + h.NS); err == nil {
			err = f()
		}
	}()
	return <-result
}

// Exec runs a command to its end and returns what it wrote to its standard
// output. The error holds what it wrote to its standard error.
func (h *Host) Exec(ctx context.Context, argv ...string) ([]byte, error) {
	return h.execEnv(ctx, nil, nil, argv...)
}

func (h *Host) execEnv(ctx context.Context, env []string, stdin []byte, argv ...string) ([]byte, error) {
	return h.execBorn(ctx, h.asUsual, env, stdin, argv...)
}

func (h *Host) execBorn(ctx context.Context, begin birth, env []string, stdin []byte, argv ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(h.environ(argv[0]), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if stdin != nil {
		cmd.Stdin = bytes.NewReader(stdin)
	}
	err := begin(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return stdout.Bytes(), commandError(cmd, stderr.Bytes(), err)
	}
	return stdout.Bytes(), nil
}

// The environment is where the lab keeps track of its processes: it is
// inherited by children, cannot be lost, and is gone with the process.
const (
	envLab     = "FAIRLEAD_LAB"         // the lab's id
	envHost    = "FAIRLEAD_LAB_HOST"    // the machine that a process dies with
	envProcess = "FAIRLEAD_LAB_PROCESS" // its name
)

func (h *Host) environ(process string) []string {
	machine := h.machine
	if machine == "" {
		machine = h.Name
	}
	return append(os.Environ(), envLab+"="+h.lab.ID, envHost+"="+machine, envProcess+"="+process)
}
