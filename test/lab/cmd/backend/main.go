// Command backend answers, by HTTP and UDP, with one line that says where it
// runs and which source address it saw:
//
//	node=n1 backend=web-1 client=172.30.0.200:4242
//
// A UDP answer repeats the request after that, so that whoever asks can tell
// which question was answered.
//
//	backend --node n1 --name web-1 tcp/8080 udp/8080
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"
)

func main() {
	var b backend
	flag.StringVar(&b.node, "node", "", "name of the node to report")
	flag.StringVar(&b.name, "name", "", "name of the backend to report")
	flag.Parse()
	if err := b.run(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "backend:", err)
		os.Exit(1)
	}
}

type backend struct{ node, name string }

// run listens on all ports before it says so, and then serves them.
func (b backend) run(ports []string) error {
	if len(ports) == 0 {
		return errors.New("no ports: name some, such as tcp/8080")
	}
	var g errgroup.Group
	for _, p := range ports {
		protocol, port, _ := strings.Cut(p, "/")
		switch protocol {
		case "tcp":
			l, err := net.Listen("tcp", ":"+port)
			if err != nil {
				return err
			}
			g.Go(func() error { return http.Serve(l, b) })
		case "udp":
			c, err := net.ListenPacket("udp", ":"+port)
			if err != nil {
				return err
			}
			g.Go(func() error { return b.echo(c.(*net.UDPConn)) })
		default:
			return fmt.Errorf("port %q: want tcp/NUMBER or udp/NUMBER", p)
		}
	}
	fmt.Println("listening on", strings.Join(ports, " "))
	return g.Wait()
}

func (b backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	client, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, b.line(client))
}

func (b backend) echo(c *net.UDPConn) error {
	buf := make([]byte, 1<<16)
	for {
		n, client, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		// An answer that cannot be sent is one that was lost.
		_, _ = c.WriteToUDPAddrPort(fmt.Appendf(nil, "%s %s", b.line(client), buf[:n]), client)
	}
}

func (b backend) line(client netip.AddrPort) string {
	client = netip.AddrPortFrom(client.Addr().Unmap(), client.Port())
	return fmt.Sprintf("node=%s backend=%s client=%s", b.node, b.name, client)
}
