package lab

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
)

//go:embed reap.sh
var reapScript string

// reaper is the process that removes the lab when its owner is gone.
type reaper struct {
	cmd       *exec.Cmd
	pipe      io.WriteCloser // while this is open the lab lives
	dismissed bool
}

func startReaper(id, dir string) (*reaper, error) {
	cmd, err := reapCommand(id, dir)
	if err != nil {
		return nil, err
	}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("reaper: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("reaper: %w", err)
	}
	return &reaper{cmd: cmd, pipe: pipe}, nil
}

// reapCommand has the script on its command line, not in a file: the folder it
// would be in is the one it removes. A session of its own keeps Ctrl-C away.
// It does not hold on to our output, or whoever waits for that to end (go
// test does) would wait for the lab as well.
func reapCommand(id, dir string) (*exec.Cmd, error) {
	cmd := exec.Command("sh", "-c", reapScript, "fairlead-lab-reaper", id, dir)
	cmd.Dir = "/"
	cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, envLab) })
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	complaints, err := os.OpenFile(complaintsFile(dir), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("reaper: %w", err)
	}
	if err == nil {
		cmd.Stderr = complaints
	}
	return cmd, nil
}

func complaintsFile(dir string) string { return dir + "/reaper.log" }

var errDismissed = errors.New("the reaper was dismissed")

// dismiss sends the reaper home: the lab is kept.
func (r *reaper) dismiss() error {
	_, err := io.WriteString(r.pipe, "keep\n")
	if err = errors.Join(err, r.cmd.Wait()); err != nil {
		return fmt.Errorf("reaper: %w", err)
	}
	r.dismissed = true
	return nil
}

// work has the reaper do its work and waits for the end of it.
func (r *reaper) work() error {
	_ = r.pipe.Close()
	return reaped(r.cmd, r.cmd.Wait())
}

// reap removes a lab that has no reaper of its own, or not ours.
func reap(id, dir string) error {
	cmd, err := reapCommand(id, dir)
	if err != nil {
		return err
	}
	return reaped(cmd, cmd.Run())
}

func reaped(cmd *exec.Cmd, err error) error {
	if err == nil {
		return nil
	}
	dir := cmd.Args[len(cmd.Args)-1]
	why, _ := os.ReadFile(complaintsFile(dir))
	return fmt.Errorf("remove lab: %w: %s", err, strings.TrimSpace(string(why)))
}
