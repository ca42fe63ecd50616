package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// Cable is one more cable between a host and the switch.
type Cable struct {
	Interface string // of the host
	MAC       net.HardwareAddr

	host *Host
	port string // of the switch
}

// AddCable plugs another interface of the host into the switch, with this address.
func (h *Host) AddCable(ctx context.Context, name string, mac net.HardwareAddr, address netip.Prefix) (*Cable, error) {
	c := &Cable{Interface: name, MAC: mac, host: h, port: h.Name + "-" + name}
	if err := ipBatch(ctx, h.lab.sw.NS, []string{
		fmt.Sprintf("link add %s type veth peer name %s address %s netns %s", c.port, name, mac, h.NS),
		fmt.Sprintf("link set %s master br0 up", c.port),
	}); err != nil {
		return nil, err
	}
	return c, ipBatch(ctx, h.NS, []string{
		fmt.Sprintf("link set %s up", name),
		fmt.Sprintf("addr add %s dev %s", address, name),
	})
}

// Pull takes the cable out of the switch.
func (c *Cable) Pull(ctx context.Context) error { return c.set(ctx, "down") }

// Plug puts the cable back.
func (c *Cable) Plug(ctx context.Context) error { return c.set(ctx, "up") }

func (c *Cable) set(ctx context.Context, state string) error {
	return ipBatch(ctx, c.host.lab.sw.NS, []string{fmt.Sprintf("link set %s %s", c.port, state)})
}

// Remove removes the cable and the host's interface.
func (c *Cable) Remove(ctx context.Context) error {
	return ipBatch(ctx, c.host.lab.sw.NS, []string{"link del " + c.port})
}
