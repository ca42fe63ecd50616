package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Package is something of the system that a lab needs.
type Package struct {
	Name   string // of the Debian package
	Brings string // the command that is looked for, or the path of a file
	Why    string
}

// packages are those of a lab. Beyond them it uses only what every Debian has
// (coreutils, grep, mount, a shell), and Go.
var packages = []Package{
	{"iproute2", "ip", "makes the namespaces, cables and routes"},
	{"nftables", "nft", "kube-proxy's rules, and partitions on the switch"},
	{"conntrack", "conntrack", "lets a node forget its connections when its power fails"},
	{"util-linux", "nsenter", "lets you type commands on a host of the lab"},
	{"curl", "curl", "to be a client"},
}

// testPackages are what `go test -race` needs beyond them.
var testPackages = []Package{
	{"gcc", "gcc", "go test -race links by it"},
	{"libc6-dev", "/usr/include/stdlib.h", "go test -race compiles against it"},
	{"prometheus", "promtool", "tests the alerts and the dashboards"},
	{"chromium", "chromium", "looks at the page of kubectl fairlead ui"},
	{"dnsmasq-base", "dnsmasq", "a DHCP server, which gives addresses of a pool"},
	{"busybox", "busybox", "a DHCP client (udhcpc), which takes them"},
}

// Routers with BGP need these. The lab runs their programs by itself; the
// services that the packages bring are not used, and hack/deps.sh keeps them off.
var (
	frrPackages = []Package{
		{"frr", frrDaemons + "/bgpd", "a router with BGP and BFD (zebra, bgpd, bfdd)"},
		{"frr-pythontools", frrDaemons + "/frr-reload.py", "changes FRR's configuration while it runs"},
	}
	birdPackages = []Package{
		{"bird2", "bird", "another router with BGP and BFD"},
	}
)

// podPackages are what nodes that run pods need beyond them; containerd and what
// belongs to Kubernetes are built.
var podPackages = []Package{
	{"runc", "runc", "starts the containers of the lab's nodes"},
	{"containernetworking-plugins", cniPlugins + "/ptp", "cables between a node and its pods"},
}

// Missing are the packages that this machine lacks for a lab.
func Missing() []Package { return missing(packages) }

// MissingForTests are the packages that this machine lacks for `make test`.
func MissingForTests() []Package {
	return missing(slices.Concat(packages, testPackages, podPackages, frrPackages, birdPackages))
}

func missing(list []Package) []Package {
	var missing []Package
	for _, p := range list {
		find := func() error { _, err := exec.LookPath(p.Brings); return err }
		if filepath.IsAbs(p.Brings) {
			find = func() error { _, err := os.Stat(p.Brings); return err }
		}
		if find() != nil {
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
	return missingError(missing)
}

func missingError(missing []Package) error {
	var names, lines []string
	for _, p := range missing {
		names = append(names, p.Name)
		lines = append(lines, fmt.Sprintf("  %s (%s): %s", p.Brings, p.Name, p.Why))
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
	if !mayMakeNamespaces() {
		return errors.New("lab: this root may not make network namespaces (CAP_SYS_ADMIN and CAP_NET_ADMIN are missing); a container must be privileged")
	}
	return nil
}
