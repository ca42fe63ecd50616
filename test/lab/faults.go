package lab

import (
	"context"
	"fmt"
	"strings"
	"syscall"
)

// Faults need no context: each is one short command, and a test wants them to
// happen even while it is giving up.

// PullCable takes the host's cable out of the switch: its interface loses the
// carrier, as a real one would.
func (h *Host) PullCable() error { return h.cable("down") }

// PlugCable puts the cable back.
func (h *Host) PlugCable() error { return h.cable("up") }

func (h *Host) cable(state string) error {
	l := h.lab
	if h.behind != nil || h.machine != "" {
		return fmt.Errorf("cable of %s: it is not plugged into the switch", h.Name)
	}
	return ipBatch(context.Background(), l.sw.NS, []string{"link set " + h.Name + " " + state})
}

// PowerOff is the end of a machine without a word: the cable carries nothing
// any more, and all its processes are gone, those of its pods included.
func (h *Host) PowerOff() error {
	if err := h.PullCable(); err != nil {
		return err
	}
	for pid, env := range h.lab.members() {
		if env[envHost] == h.Name {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone by itself
		}
	}
	for _, p := range h.lab.on(h.Name) {
		<-p.Done()
	}
	return nil
}

// PowerOn boots a node again: nothing of its rules and connections is left, and
// kube-proxy starts anew. Its backends stay down, and starting a speaker is up
// to the caller; a node that runs pods starts those that it is to run.
func (h *Host) PowerOn(ctx context.Context) error {
	if h.node == 0 {
		return h.PlugCable()
	}
	if _, err := h.Exec(ctx, "nft", "flush", "ruleset"); err != nil {
		return err
	}
	if _, err := h.Exec(ctx, "conntrack", "-F"); err != nil {
		return err
	}
	if _, err := h.Exec(ctx, "ip", "neigh", "flush", "all"); err != nil {
		return err
	}
	if err := h.PlugCable(); err != nil {
		return err
	}
	return h.lab.startNode(ctx, h)
}

// on are the processes that a machine's power keeps alive.
func (l *Lab) on(machine string) []*Process {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []*Process
	for _, p := range l.processes {
		if p.host.Name == machine || p.host.machine == machine {
			found = append(found, p)
		}
	}
	return found
}

const faultsTable = "fairlead_faults"

// Partition makes the switch drop everything between the hosts named in one
// list and those in the other, in both directions. Partitions add up until Heal.
func (l *Lab) Partition(one, other []string) error {
	return l.addFaults(dropFrames(one, other), dropFrames(other, one))
}

// PartitionOneWay makes the switch drop everything from the hosts named in one list to
// those in the other; the way back stays open. It adds up as well, and ends with Heal.
func (l *Lab) PartitionOneWay(from, to []string) error {
	return l.addFaults(dropFrames(from, to))
}

func dropFrames(from, to []string) string {
	return fmt.Sprintf("iifname { %s } oifname { %s } drop", ports(from), ports(to))
}

// Lose makes the switch drop that many per cent, chosen at random, of what goes
// to and comes from a host. It adds up as well, and ends with Heal.
func (l *Lab) Lose(percent int, host string) error {
	if percent < 1 || percent > 100 {
		return fmt.Errorf("lose %d %% of packets: want 1 to 100", percent)
	}
	chance := fmt.Sprintf("numgen random mod 100 < %d", percent)
	if percent == 100 {
		chance = "" // nft refuses a condition that always holds
	}
	port := ports([]string{host})
	return l.addFaults(
		fmt.Sprintf("iifname %s %s drop", port, chance),
		fmt.Sprintf("oifname %s %s drop", port, chance))
}

// Heal ends all partitions and losses. Cables stay as they are.
func (l *Lab) Heal() error {
	// To declare a table that exists is nothing, and makes it safe to delete.
	return l.nft(fmt.Sprintf("table bridge %[1]s { }\ndelete table bridge %[1]s\n", faultsTable))
}

func (l *Lab) addFaults(rules ...string) error {
	return l.nft(fmt.Sprintf("table bridge %s {\n\tchain forward {\n\t\ttype filter hook forward priority 0;\n\t\t%s\n\t}\n}\n",
		faultsTable, strings.Join(rules, "\n\t\t")))
}

// nft loads a ruleset, as a whole or not at all, on the switch.
func (l *Lab) nft(ruleset string) error {
	_, err := l.sw.execEnv(context.Background(), nil, []byte(ruleset), "nft", "-f", "-")
	return err
}

// ports names the switch's ports, which are called like the hosts behind them.
func ports(hosts []string) string {
	quoted := make([]string, len(hosts))
	for i, h := range hosts {
		quoted[i] = fmt.Sprintf("%q", h)
	}
	return strings.Join(quoted, ", ")
}
