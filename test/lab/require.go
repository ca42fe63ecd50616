package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// Package is something of the system that a lab needs.
type Package struct {
	Name    string // of the Debian package
	Command string // that it brings
	Why     string
}

var packages = []Package{
	{"iproute2", "ip", "makes the namespaces, cables and routes"},
	{"nftables", "nft", "kube-proxy's rules, and partitions on the switch"},
	{"conntrack", "conntrack", "lets a node forget its connections when its power fails"},
	{"util-linux", "nsenter", "lets you type commands on a host of the lab"},
	{"curl", "curl", "to be a client"},
}

// Missing are the packages that this machine lacks.
func Missing() []Package {
	var missing []Package
	for _, p := range packages {
		if _, err := exec.LookPath(p.Command); err != nil {
			missing = append(missing, p)
		}
	}
	return missing
}

// check says why there can be no lab on this machine.
func check() error {
	if err := unsuitable(); err != nil {
		return err
	}
	missing := Missing()
	if len(missing) == 0 {
		return nil
	}
	var names, lines []string
	for _, p := range missing {
		names = append(names, p.Name)
		lines = append(lines, fmt.Sprintf("  %s (%s): %s", p.Command, p.Name, p.Why))
	}
	return fmt.Errorf("lab: commands are missing:\n%s\nOn Debian: apt-get install --yes %s", strings.Join(lines, "\n"), strings.Join(names, " "))
}

// unsuitable is about what cannot be installed.
func unsuitable() error {
	if runtime.GOOS != "linux" {
		return errors.New("lab: it is made of Linux network namespaces, and this is " + runtime.GOOS)
	}
	if os.Geteuid() != 0 {
		return errors.New("lab: making network namespaces takes root")
	}
	return nil
}
