package bgp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

const ownNetwork = "FAIRLEAD_BGP_TEST_NETWORK"

// TestMain runs the tests in a network namespace of their own, in which they may
// do what they like, where it can make one.
func TestMain(m *testing.M) {
	if os.Getenv(ownNetwork) != "" || os.Geteuid() != 0 {
		if os.Getenv(ownNetwork) != "" {
			if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "bring loopback up: %v: %s", err, out)
				os.Exit(1)
			}
		}
		if os.Getenv(asSpeaker) != "" {
			speak()
		}
		os.Exit(m.Run())
	}
	os.Exit(again())
}

// asSpeaker makes the test's program one that has a session with a router until
// it is killed.
const asSpeaker = "FAIRLEAD_BGP_TEST_SPEAKER"

func speak() {
	New(Config{}).Apply([]lb.BGPPeer{peer(nil)}, []lb.BGPRoute{route("198.51.100.1/32", nil)})
	select {}
}

func again() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	self := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	self.Stdin, self.Stdout, self.Stderr = os.Stdin, os.Stdout, os.Stderr
	self.Env = append(os.Environ(), ownNetwork+"=1")
	self.Cancel = func() error { return self.Process.Signal(syscall.SIGQUIT) }
	self.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := self.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "run the tests in a network namespace:", err)
		return 1
	}
	return 0
}

// root skips a test that needs a network of its own.
func root(t testing.TB) {
	t.Helper()
	if os.Getenv(ownNetwork) == "" || testing.Short() {
		t.Skip("needs root, for network namespaces, and time")
	}
}
