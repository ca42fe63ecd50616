package netif

import (
	"path"
	"slices"
)

// internalKinds are kinds of interfaces, as the kernel calls them, that lead to other hosts'
// containers or nowhere. That of a veth says nothing: it may be the host's only interface,
// where the host is a container itself.
var internalKinds = []string{"vxlan", "geneve", "dummy", "ipip", "sit", "ip6tnl", "gre", "gretap", "ip6gretap", "erspan", "wireguard", "ifb"}

// internalNames are the names that container runtimes, network plugins, hypervisors and
// kube-proxy give to interfaces of their own.
var internalNames = []string{
	"docker*", "br-" + hex12, "podman*", "nerdctl*", "cni*", "cbr*", "veth*", "virbr*", "vnet*", "lxc*", "lxdbr*",
	"cali*", "tunl*", "vxlan*", "flannel*", "cilium*", "weave*", "kube-*", "nodelocaldns*", "antrea-*", "ovn-*", "genev_*",
	"dummy*", "wg*", "tailscale*",
}

// hex12 is what Docker appends to the names of bridges.
const hex12 = hex4 + hex4 + hex4

const hex4 = "[0-9a-f][0-9a-f][0-9a-f][0-9a-f]"

// Flags of interfaces (netdevice(7)).
const (
	pointToPoint = 0x10
	noARP        = 0x80
)

// isInternal reports whether an interface leads to containers or into a tunnel: what is
// announced there no client hears, so that its subnets do not count unless a user names it.
func isInternal(name, kind string, flags uint32) bool {
	return flags&(pointToPoint|noARP) != 0 || slices.Contains(internalKinds, kind) ||
		slices.ContainsFunc(internalNames, func(glob string) bool {
			ok, err := path.Match(glob, name)
			return ok && err == nil
		})
}
