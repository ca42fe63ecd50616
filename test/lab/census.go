package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"
)

// Who asks the network for each address, by ARP or NDP, and returns every machine
// that answered: nodes by name, others by MAC, sorted. It asks each question three
// times and listens for as long as within says. Where a NeighbourWatch follows one
// address closely, Who is for many at one moment.
func (h *Host) Who(addresses []netip.Addr, within time.Duration) (map[netip.Addr][]string, error) {
	found := map[netip.Addr][]string{}
	for _, protocol := range []uint16{etherARP, etherIPv6} {
		mine := slices.DeleteFunc(slices.Clone(addresses), func(ip netip.Addr) bool { return ip.Is4() != (protocol == etherARP) })
		if err := h.askEach(mine, protocol, within, found); err != nil {
			return nil, fmt.Errorf("ask for addresses from %s: %w", h.Name, err)
		}
	}
	for _, who := range found {
		slices.Sort(who)
	}
	return found, nil
}

func (h *Host) askEach(addresses []netip.Addr, protocol uint16, within time.Duration, found map[netip.Addr][]string) error {
	var conn packetConn
	if err := h.Do(func() (err error) {
		conn, err = listenPacket("eth0", protocol)
		return err
	}); err != nil {
		return err
	}
	answers := make(chan claim, 1024)
	go func() {
		defer close(answers)
		readClaims(conn, h.MAC, answers)
	}()
	defer func() {
		_ = conn.Close()
		for range answers { // until the reader has seen that
		}
	}()
	const times = 3
	end := time.After(within)
	again := time.NewTicker(within / times)
	defer again.Stop()
	for asked := 0; ; {
		if asked < times {
			asked++
			for _, ip := range addresses {
				question, _ := solicit(h, ip)
				if _, err := conn.Write(question); err != nil {
					return err
				}
			}
		}
	listening:
		for {
			select {
			case c := <-answers:
				who := c.mac.String()
				if node := h.lab.NodeByMAC(who); node != "" {
					who = node
				}
				if slices.Contains(addresses, c.ip) && !slices.Contains(found[c.ip], who) {
					found[c.ip] = append(found[c.ip], who)
				}
			case <-again.C:
				break listening
			case <-end:
				return nil
			}
		}
	}
}

// readClaims passes on the answers that are for this host, until the socket is closed.
func readClaims(conn packetConn, self net.HardwareAddr, to chan<- claim) {
	buf := make([]byte, 2048)
	for {
		n, err := conn.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if c, ok := parseClaim(buf[:max(n, 0)]); err == nil && ok && c.to.String() == self.String() {
			to <- c
		}
	}
}

// ForgeARP broadcasts an ARP reply which says that a MAC has an IPv4 address,
// without anybody there who would answer for it.
func (h *Host) ForgeARP(ip netip.Addr, mac net.HardwareAddr) error {
	frame := ethernet(broadcast, mac, etherARP)
	frame = append(frame, 0, 1, 0x08, 0x00, 6, 4, 0, arpReply)
	frame = append(append(frame, mac...), ip.AsSlice()...)
	frame = append(append(frame, broadcast...), ip.AsSlice()...)
	return h.Do(func() error {
		conn, err := listenPacket("eth0", etherARP)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write(frame)
		return err
	})
}
