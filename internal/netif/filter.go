package netif

import "golang.org/x/net/bpf"

// DropOtherHosts returns the first instructions of a packet socket's filter, which drop packets
// for other hosts (packet(7), PACKET_OTHERHOST). The kernel gives that type also to packets
// with the tag of a VLAN for which the node has no interface; the tag itself is not visible
// to a filter.
func DropOtherHosts() []bpf.Instruction {
	const otherHost = 3
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: otherHost, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}
}
