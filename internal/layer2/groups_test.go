package layer2

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// ownNetwork gives the test a network of its own, with an interface that has a peer.
func ownNetwork(t *testing.T) *net.Interface {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can make a network namespace")
	}
	runtime.LockOSThread() // and never unlocked: the thread, and the namespace, end with the test
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"link add eth0 type veth peer name eth1", "link set eth1 up", "link set eth0 addrgenmode none up", "addr add fe80::1/64 dev eth0 nodad"} {
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v %s", args, err, out)
		}
	}
	eth0, err := net.InterfaceByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	return eth0
}

// A node may answer for more IPv6 addresses than the kernel lets one socket join
// groups for, and the groups go with the addresses.
func TestGroupsOfManyAddresses(t *testing.T) {
	eth0 := ownNetwork(t)
	w, err := dialNDP(eth0)
	if err != nil {
		t.Fatal(err)
	}
	joined := func() int {
		b, err := os.ReadFile("/proc/thread-self/net/igmp6")
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for line := range strings.Lines(string(b)) { // the kernel joins that of fe80::1, and others on eth1, at a time of its own
			if f := strings.Fields(line); len(f) > 2 && f[1] == "eth0" && strings.HasPrefix(f[2], "ff0200000000000000000001ff") && !strings.HasSuffix(f[2], "000001") {
				n++
			}
		}
		return n
	}
	const many = 5000
	var all []netip.Addr
	for a := netip.MustParseAddr("2001:db8::1:0"); len(all) < many; a = a.Next() {
		if err := w.Listen(a); err != nil {
			t.Fatalf("address %d: %v", len(all), err)
		}
		all = append(all, a)
	}
	if n := joined(); n != many {
		t.Errorf("%d groups are joined, want %d", n, many)
	}
	t.Logf("by %d sockets", len(w.(*ndpConn).sockets))
	for _, a := range all {
		if err := w.Ignore(a); err != nil {
			t.Fatal(err)
		}
	}
	if n := joined(); n != 0 {
		t.Errorf("%d groups are left", n)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
