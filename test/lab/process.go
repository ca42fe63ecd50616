package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a program that runs on a host of the lab.
type Process struct {
	Name string
	PID  int

	host  *Host
	log   string
	logAt int64  // where this process's part of the log begins; before it are those of the same name
	ready string // address of its health probes, if it has them
	done  chan struct{}
	exit  error // why it ended; set before done is closed

	mu sync.Mutex // held while signalling, so that a process id is never one that was reused
}

var errClosed = errors.New("the lab is closed")

// Start starts a program that runs until it is stopped or the lab ends. Name
// must not be that of a process that still runs; its log is appended to.
func (h *Host) Start(name string, argv ...string) (*Process, error) {
	return h.start(name, h.asUsual, argv...)
}

// birth starts a command on a host, in the right namespaces.
type birth func(*exec.Cmd) error

// asUsual is the birth of a program that only the host's network is for: a child
// is born in the namespace of the thread that forks it.
func (h *Host) asUsual(cmd *exec.Cmd) error { return h.Do(cmd.Start) }

func (h *Host) start(name string, begin birth, argv ...string) (*Process, error) {
	l := h.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("start %s on %s: %w", name, h.Name, errClosed)
	}
	if old := l.processes[name]; old != nil && !old.exited() {
		return nil, fmt.Errorf("start %s on %s: it runs already, as process %d", name, h.Name, old.PID)
	}
	p := &Process{Name: name, host: h, log: l.logFile(name), ready: probes(name), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", name, h.Name, err)
	}
	defer log.Close()
	if info, err := log.Stat(); err == nil {
		p.logAt = info.Size()
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = h.environ(name)
	cmd.Dir = l.Dir
	cmd.Stdout, cmd.Stderr = log, log
	// A session of its own: Ctrl-C is for the owner, who still wants to look
	// around in an orderly lab. It also marks the process as one of ours, see adopt.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := begin(cmd); err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", name, h.Name, err)
	}
	p.PID = cmd.Process.Pid
	go func() {
		// Wait without reaping, then reap under the lock.
		waitForExit(p.PID)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.exit = cmd.Wait()
		close(p.done)
	}()
	l.processes[name] = p
	return p, nil
}

// Process returns the process of that name which was started last, or nil.
func (l *Lab) Process(name string) *Process {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.processes[name]
}

// Signal sends a signal; to a process that has ended it is an error.
func (p *Process) Signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exited() {
		return fmt.Errorf("%s: %w", p.Name, os.ErrProcessDone)
	}
	if err := syscall.Kill(p.PID, s); err != nil {
		return fmt.Errorf("%s: %v: %w", p.Name, s, err)
	}
	return nil
}

// Kill ends the process as a crash would (SIGKILL) and waits until it is gone.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.done
	return nil
}

// Stop asks the process to end (SIGTERM) and waits until it has.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop %s: %w\n%s", p.Name, ctx.Err(), p.Tail(5))
	}
}

// Freeze stops the process from running (SIGSTOP): it keeps its memory and its
// connections, but answers nobody.
func (p *Process) Freeze() error { return p.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen process go on.
func (p *Process) Thaw() error { return p.Signal(syscall.SIGCONT) }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Log is the path of the file with all that the process has written.
func (p *Process) Log() string { return p.log }

// Tail is the end of the log.
func (p *Process) Tail(lines int) string { return tail(p.log, lines) }

// Ready waits until the process's readiness probe answers 200.
func (p *Process) Ready(ctx context.Context) error {
	if p.ready == "" {
		return fmt.Errorf("%s has no readiness probe", p.Name)
	}
	return p.wait(ctx, "ready", func(ctx context.Context) error {
		return p.host.get(ctx, "http://"+p.ready+"/readyz")
	})
}

// said reports whether the process has written that.
func (p *Process) said(text string) error {
	log, err := os.ReadFile(p.log)
	if err != nil {
		return err
	}
	if !bytes.Contains(log[p.logAt:], []byte(text)) {
		return fmt.Errorf("it has not said %q yet", text)
	}
	return nil
}

// wait polls until what is asked holds, and gives up when the process ends.
func (p *Process) wait(ctx context.Context, what string, f func(context.Context) error) error {
	err := poll(ctx, func(ctx context.Context) (bool, error) {
		if p.exited() {
			return true, errors.Join(errors.New("it ended"), p.exit)
		}
		err := f(ctx)
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("wait for %s to be %s: %w\n%s", p.Name, what, err, p.Tail(5))
	}
	return nil
}

func (p *Process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// adopt finds the processes of a lab that another process started: leaders of
// sessions with the lab's id in their environment.
func (l *Lab) adopt() error {
	for pid, env := range l.members() {
		sid, err := unix.Getsid(pid)
		if err != nil || sid != pid {
			continue
		}
		name, h := env[envProcess], l.host(env[envHost])
		if name == "" || h == nil {
			continue
		}
		p := &Process{Name: name, PID: pid, host: h, log: l.logFile(name), ready: probes(name), done: make(chan struct{})}
		l.processes[p.Name] = p
		go func() {
			waitForExit(pid)
			p.mu.Lock()
			defer p.mu.Unlock()
			close(p.done)
		}()
	}
	if l.processes["kube-apiserver"] == nil {
		return errors.New("its API server is not running")
	}
	return nil
}

// members are all processes that belong to the lab, with the part of their
// environment that says so.
func (l *Lab) members() map[int]map[string]string {
	found := map[int]map[string]string{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		environ, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil {
			continue // it has ended
		}
		env := map[string]string{}
		for _, v := range bytes.Split(environ, []byte{0}) {
			if key, value, ok := strings.Cut(string(v), "="); ok && strings.HasPrefix(key, envLab) {
				env[key] = value
			}
		}
		if env[envLab] == l.ID {
			found[pid] = env
		}
	}
	return found
}

func (l *Lab) host(name string) *Host {
	hosts := l.Hosts()
	i := slices.IndexFunc(hosts, func(h *Host) bool { return h.Name == name })
	if i < 0 {
		return nil
	}
	return hosts[i]
}

func (l *Lab) logFile(process string) string {
	return filepath.Join(l.Dir, "logs", process+".log")
}

// LogTails is the end of every log, for a person who wonders what went wrong.
func (l *Lab) LogTails(lines int) string {
	files, _ := filepath.Glob(l.logFile("*"))
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "== %s\n%s\n", filepath.Base(f), tail(f, lines))
	}
	return b.String()
}

func tail(file string, lines int) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// get asks for a page from inside the namespace and wants a 200.
func (h *Host) get(ctx context.Context, url string) error {
	client := &http.Client{
		Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true},
		Timeout:   2 * time.Second,
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, res.Status)
	}
	return nil
}

// poll asks again and again until f is done or ctx is. A failure to the end of
// ctx is reported with the last reason and not only with the lack of time.
func poll(ctx context.Context, f func(context.Context) (done bool, err error)) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		done, err := f(ctx)
		if done {
			return err
		}
		select {
		case <-ctx.Done():
			if err != nil {
				return fmt.Errorf("%w: %w", ctx.Err(), err)
			}
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
