package netif

import (
	"path"
	"slices"
)

// internalKinds are the kernel's kinds of interfaces that lead to containers of other hosts, or
// nowhere. The kind veth is not among them: it may be the host's only interface if the host
// is a container itself.
var internalKinds = []string{"vxlan", "geneve", "dummy", "ipip", "sit", "ip6tnl", "gre", "gretap", "ip6gretap", "erspan", "wireguard", "ifb"}

// internalNames are the names that container runtimes, network plugins, hypervisors and
// kube-proxy give to their own interfaces.
var internalNames = []string{
	"docker*", "br-" + hex12, "podman*", "nerdctl*", "cni*", "cbr*", "veth*", "virbr*", "vnet*", "lxc*", "lxdbr*",
	"cali*", "tunl*", "vxlan*", "flannel*", "cilium*", "weave*", "kube-*", "nodelocaldns*", "antrea-*", "ovn-*", "genev_*",
	"dummy*", "wg*", "tailscale*",
}

// hex12 matches the suffix that Docker gives to the names of bridges.
const hex12 = hex4 + hex4 + hex4

const hex4 = "[0-9a-f][0-9a-f][0-9a-f][0-9a-f]"

// Flags of interfaces (netdevice(7)).
const (
	pointToPoint = 0x10
	noARP        = 0x80
)

// isInternal reports whether an interface leads to containers or into a tunnel. Clients do not
// receive what is announced there, so its subnets do not count unless a user names it.
func isInternal(name, kind string, flags uint32) bool {
	return flags&(pointToPoint|noARP) != 0 || slices.Contains(internalKinds, kind) ||
		slices.ContainsFunc(internalNames, func(glob string) bool {
			ok, err := path.Match(glob, name)
			return ok && err == nil
		})
}
