// Command lab brings up a Fairlead lab for a person to play with.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/fairlead-lb/fairlead/test/lab"
)

const usage = `usage: lab COMMAND

  demo                             show what Fairlead does, in a lab that stays
  up [--nodes N] [--pods] [--bare] [--router frr|bird]...
                                   bring up a lab that stays; --pods with nodes that
                                   run pods, --bare without Fairlead
  down [ID... | --kept | --all]    take labs down; without ID, the only one that is kept
  list                             labs on this machine
  exec ID HOST [COMMAND...]        run a command, or a shell, on a host of a lab
  backend ID SERVICE NAME NODE     add a backend to a Service ([NAMESPACE/]SERVICE)
  assets                           build what every kind of lab runs, if it is not there
  deps [--tests] [--names]         say which Debian packages are missing, for make test as well
`

// errUsage is shown with the usage and ends with status 2.
var errUsage = errors.New("see usage")

// errInterrupted has been told to the user already.
var errInterrupted = errors.New("interrupted")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage)
	case errors.Is(err, errInterrupted):
		os.Exit(130) // as a shell says of a program that Ctrl-C has ended
	case errors.Is(err, errUsage):
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	commands := map[string]func(context.Context, []string) error{
		"demo": showDemo, "up": up, "down": down, "list": list, "exec": execute, "backend": backend, "assets": assets, "deps": deps,
	}
	command, ok := commands[args[0]]
	switch {
	case ok:
		return command(ctx, args[1:])
	case slices.Contains([]string{"help", "-h", "--help"}, args[0]):
		return flag.ErrHelp
	}
	return errUsage
}

func up(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("lab up", flag.ContinueOnError)
	nodes := flags.Int("nodes", 3, "how many nodes")
	pods := flags.Bool("pods", false, "nodes with containerd and a kubelet")
	bare := flags.Bool("bare", false, "do not install and start Fairlead")
	var routers []lab.RouterKind
	flags.Func("router", "add a BGP router, frr or bird; may be given several times", func(s string) error {
		kind, err := lab.ParseRouterKind(s)
		routers = append(routers, kind)
		return err
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	log := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	l, err := lab.Start(ctx, lab.Options{Nodes: *nodes, Pods: *pods, Keep: true, Log: log})
	if err != nil {
		return err
	}
	fmt.Printf(howTo, l.Dir, l.ID)
	for _, kind := range routers {
		r, err := l.AddRouter(ctx, lab.RouterSpec{Kind: kind})
		if err != nil {
			return fmt.Errorf("lab %s is up, but not its routers: %w", l.ID, err)
		}
		fmt.Printf("Router %-16s%s-shell                             (%s; its client is %s)\n", r.Name+":", r.Name, kind, r.Client.Name)
	}
	if *bare {
		return nil
	}
	// From here on the lab stays, whatever happens: somebody who changes
	// Fairlead wants to see why it does not start.
	start := install
	if *pods {
		start = installChart
	}
	if err := start(ctx, l); err != nil {
		return fmt.Errorf("lab %s is up, but without Fairlead: %w", l.ID, err)
	}
	log("lab %s: Fairlead is running", l.ID)
	return nil
}

func install(ctx context.Context, l *lab.Lab) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := l.Install(ctx); err != nil {
		return err
	}
	return l.StartFairlead(ctx)
}

// installChart installs as a user does, with the image that is built from here.
func installChart(ctx context.Context, l *lab.Lab) error {
	image, err := lab.FairleadImage(ctx, "devel")
	if err != nil {
		return err
	}
	if err := l.LoadImages(ctx, image); err != nil {
		return err
	}
	chart, err := lab.Chart()
	if err != nil {
		return err
	}
	_, err = l.Helm(ctx, "install", "fairlead", chart, "--namespace", lab.Namespace, "--create-namespace",
		"--set", "image.tag=devel", "--wait", "--timeout", "2m")
	return err
}

const howTo = `
For this shell:        export PATH=%[1]s/bin:$PATH
Use Kubernetes:        kubectl get nodes
Be a client:           client curl -s http://172.30.0.100     (far: behind the router)
Be a node:             n1 ip addr; n1 nft list ruleset
Look at logs:          ls %[1]s/logs
Pull a cable:          sw ip link set n1 down                 (up puts it back)
Add a backend:         go run ./test/lab/cmd/lab backend %[2]s SERVICE web-1 n1
Bring it down:         go run ./test/lab/cmd/lab down %[2]s
`

func down(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("lab down", flag.ContinueOnError)
	kept := flags.Bool("kept", false, "take down every lab that demo and up have left")
	all := flags.Bool("all", false, "take down every lab, of tests that run as well")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ids := flags.Args()
	if len(ids) == 0 {
		var err error
		if ids, err = which(*kept, *all); err != nil {
			return err
		}
	}
	var errs []error
	for _, id := range ids {
		err := lab.Remove(id)
		if err == nil {
			fmt.Printf("lab %s is gone\n", id)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// which labs are meant when none was named.
func which(kept, all bool) ([]string, error) {
	labs, err := lab.List()
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, l := range labs {
		if all || l.Kept {
			ids = append(ids, l.ID)
		}
	}
	if !kept && !all && len(ids) > 1 {
		return nil, fmt.Errorf("there are several labs: name some of %s, or say --kept", strings.Join(ids, ", "))
	}
	if len(ids) == 0 {
		fmt.Println("there is no lab to take down")
	}
	return ids, nil
}

func list(context.Context, []string) error {
	labs, err := lab.List()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "ID\tNODES\tAGE\tLIVES")
	for _, l := range labs {
		age, lives := "-", "not up"
		if !l.Started.IsZero() {
			age = time.Since(l.Started).Round(time.Second).String()
			lives = fmt.Sprintf("as long as process %d", l.Owner)
		}
		if l.Kept {
			lives = "until lab down"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", l.ID, l.Nodes, age, lives)
	}
	return w.Flush()
}

// execute becomes the lab's own wrapper for that host.
func execute(_ context.Context, args []string) error {
	if len(args) < 2 {
		return errUsage
	}
	l, err := lab.Open(args[0])
	if err != nil {
		return err
	}
	wrapper := filepath.Join(l.Dir, "bin", lab.WrapperName(filepath.Base(args[1])))
	if err := syscall.Exec(wrapper, args[1:], os.Environ()); err != nil {
		return fmt.Errorf("lab %s, host %s: %w", args[0], args[1], err)
	}
	return nil
}

func backend(ctx context.Context, args []string) error {
	if len(args) != 4 {
		return errUsage
	}
	l, err := lab.Open(args[0])
	if err != nil {
		return err
	}
	spec := lab.BackendSpec{Service: args[1], Name: args[2], Node: args[3]}
	if namespace, service, ok := strings.Cut(args[1], "/"); ok {
		spec.Namespace, spec.Service = namespace, service
	}
	b, err := l.AddBackend(ctx, spec)
	if err != nil {
		return err
	}
	fmt.Printf("%s runs on %s at %s and %s\n", spec.Name, spec.Node, b.Pod.IPv4, b.Pod.IPv6)
	return nil
}

func assets(ctx context.Context, _ []string) error {
	dir, err := lab.Assets(ctx)
	if err == nil {
		fmt.Println("What labs run is in", dir)
	}
	return err
}

func deps(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("lab deps", flag.ContinueOnError)
	names := flags.Bool("names", false, "only names of packages, for apt-get install")
	tests := flags.Bool("tests", false, "what make test needs as well")
	if err := flags.Parse(args); err != nil {
		return err
	}
	missing := lab.Missing
	if *tests {
		missing = lab.MissingForTests
	}
	for _, p := range missing() {
		if *names {
			fmt.Println(p.Name)
			continue
		}
		fmt.Printf("%-12s %s: %s\n", p.Name, p.Brings, p.Why)
	}
	return nil
}
