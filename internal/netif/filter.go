package netif

import "golang.org/x/net/bpf"

// Ours is how the filter of a packet socket begins that is to hear no other network:
// it drops what the kernel says is for others (packet(7), PACKET_OTHERHOST). So the
// kernel calls what has the tag of a VLAN for which the node has no interface; the
// tag itself is gone when a filter looks.
func Ours() []bpf.Instruction {
	const otherHost = 3
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: otherHost, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}
}
