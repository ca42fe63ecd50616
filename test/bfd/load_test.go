package bfd

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/internal/bfd"
)

// loadEnv says for how long the machine is kept busy, as time.ParseDuration reads
// it. The default is for those who cannot wait.
const loadEnv = "FAIRLEAD_BFD_LOAD"

func loadTime(t *testing.T) time.Duration {
	d, err := time.ParseDuration(os.Getenv(loadEnv))
	if err != nil {
		d = 15 * time.Second
	}
	return d
}

// spin keeps every core busy with two processes of ordinary priority.
func spin(t *testing.T) {
	for range 2 * runtime.NumCPU() {
		cmd := exec.Command("sh", "-c", "while :; do :; done")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		started := make(chan error)
		go func() {
			runtime.LockOSThread() // Pdeathsig is about this thread
			started <- cmd.Start()
			cmd.Wait()
		}()
		if err := <-started; err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill() })
	}
}

// garbage keeps Go's own scheduler and collector busy, as a large program does.
func garbage(t *testing.T) {
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	for range runtime.NumCPU() {
		go func() {
			kept := make([][]byte, 1000)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					kept[i%len(kept)] = make([]byte, 20_000)
				}
			}
		}()
	}
}

// 50 ms x 3 holds on a machine that has no time, in a program that has none
// either. It takes a child to hold it.
func TestBusyMachine(t *testing.T) {
	for name, load := range map[string]func(*testing.T){
		"spinning processes": spin,
		"garbage":            garbage,
		"both":               func(t *testing.T) { spin(t); garbage(t) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			specsA, specsB := everyKind()
			a, b := p.a.child(specsA...), p.b.child(specsB...)
			a.all(len(specsA), bfd.Up)
			b.all(len(specsB), bfd.Up)
			a.Status()
			b.Status()
			load(t)
			<-time.After(loadTime(t))
			s := a.Status()
			t.Logf("priority %v; timers at most %v and %v late", s.Priority, s.Late, b.Status().Late)
			a.steady()
			b.steady()
		})
	}
}
