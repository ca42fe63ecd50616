package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// bird is BIRD 2. All that it keeps is where its command line says.
type bird struct{ *Router }

// birdMain includes the router's configuration. What stands before that makes
// BIRD tell what the lab wants to know: when things happened, to more than the
// second, and sessions that went.
const birdMain = `log stderr all;
timeformat base iso long ms;
timeformat log iso long ms;
timeformat protocol iso long ms;
timeformat route iso long ms;
debug protocols { states, events };
include "%s";
`

func (b bird) needs() []Package { return birdPackages }

func (b bird) configFile() string { return "bird.conf" }

func (b bird) daemons() []string { return []string{"bird"} }

func (b bird) start(ctx context.Context) error {
	main := fmt.Sprintf(birdMain, b.file(b.configFile()))
	if err := os.WriteFile(b.file("main.conf"), []byte(main), 0o600); err != nil {
		return err
	}
	p, err := b.Host.Start("bird-"+b.Name, "bird", "-f", "-c", b.file("main.conf"), "-s", b.socket(), "-P", b.file("bird.pid"))
	if err != nil {
		return err
	}
	return p.wait(ctx, "up", func(ctx context.Context) error {
		out, err := b.command(ctx, "show status")
		if err == nil && !strings.Contains(string(out), "Daemon is up and running") {
			err = errors.New(strings.TrimSpace(string(out)))
		}
		return err
	})
}

func (b bird) reload(ctx context.Context) error {
	out, err := b.command(ctx, "configure")
	if err == nil && !strings.Contains(string(out), "Reconfigur") {
		err = fmt.Errorf("BIRD says: %s", strings.TrimSpace(string(out)))
	}
	return err
}

func (b bird) command(ctx context.Context, commands ...string) ([]byte, error) {
	if len(commands) != 1 {
		return nil, fmt.Errorf("BIRD takes one command at a time, not %d", len(commands))
	}
	return b.Exec(ctx, append([]string{"birdc", "-s", b.socket()}, strings.Fields(commands[0])...)...)
}

func (b bird) socket() string { return b.file("bird.ctl") }

func (b bird) shell() string { return "birdc -s '" + b.socket() + "'" }
