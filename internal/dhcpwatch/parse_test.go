package dhcpwatch

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/net/bpf"
)

var (
	router = netip.MustParseAddr("192.0.2.1")
	given  = netip.MustParseAddr("192.0.2.115")
)

const (
	phone  = "02:00:5e:00:53:01"
	tablet = "02:00:5e:00:53:02"
)

// dhcpMessage returns a message of the phone's with these options (RFC 2131, 2), and
// no address in its header.
func dhcpMessage(op byte, options ...[]byte) []byte {
	b := make([]byte, optionsAt)
	b[opAt], b[htypeAt], b[hlenAt] = op, ethernet, 6
	binary.BigEndian.PutUint32(b[xidAt:], 7)
	copy(b[chaddrAt:], []byte{2, 0, 0x5e, 0, 0x53, 1})
	binary.BigEndian.PutUint32(b[cookieAt:], cookie)
	return append(append(b, bytes.Join(options, nil)...), optionEnd)
}

// with returns the message with this address in a field of its header.
func with(b []byte, at int, a netip.Addr) []byte {
	copy(b[at:], a.AsSlice())
	return b
}

func option(code byte, value ...byte) []byte { return append([]byte{code, byte(len(value))}, value...) }

func typed(k kind) []byte { return option(optionType, byte(k)) }

func asks(a netip.Addr) []byte { return option(optionRequested, a.AsSlice()...) }

func by(server netip.Addr) []byte { return option(optionServer, server.AsSlice()...) }

// broadcast returns an IPv4 packet with the message, to a port, after some options of
// the IPv4 header.
func broadcast(port uint16, message []byte, ipOptions ...byte) []byte {
	header := 20 + len(ipOptions)
	b := make([]byte, header+udpHeader, header+udpHeader+len(message))
	b[0], b[8], b[9] = 4<<4|byte(header/4), 64, protocolUDP
	binary.BigEndian.PutUint16(b[2:], uint16(cap(b)))
	copy(b[16:], []byte{255, 255, 255, 255})
	copy(b[20:], ipOptions)
	binary.BigEndian.PutUint16(b[header:], clientPort+serverPort-port)
	binary.BigEndian.PutUint16(b[header+2:], port)
	binary.BigEndian.PutUint16(b[header+4:], uint16(udpHeader+len(message)))
	return append(b, message...)
}

func toServer(options ...[]byte) []byte {
	return broadcast(serverPort, dhcpMessage(bootRequest, options...))
}

// selecting is the request of a host that selects a server's offer.
func selecting() []byte { return toServer(typed(request), asks(given), by(router)) }

func TestParse(t *testing.T) {
	said := func(k kind, a, server netip.Addr) message {
		return message{kind: k, xid: 7, client: phone, addr: a, server: server}
	}
	for name, tt := range map[string]struct {
		packet []byte
		want   message
	}{
		"a client selects an offer":  {selecting(), said(request, given, router)},
		"padded as in a short frame": {append(selecting(), 0, 0, 0), said(request, given, router)},
		"options of the IPv4 header": {broadcast(serverPort, dhcpMessage(bootRequest, typed(request), asks(given), by(router)), 1, 1, 1, 0), said(request, given, router)},
		"options that are not read":  {toServer(option(61, 1, 2, 3), []byte{optionPad, optionPad}, typed(request), option(80), asks(given)), said(request, given, netip.Addr{})},
		"an option twice: the first": {toServer(typed(request), asks(given), asks(router)), said(request, given, netip.Addr{})},
		"no end of the options":      {broadcast(serverPort, bytes.TrimSuffix(dhcpMessage(bootRequest, typed(request), asks(given)), []byte{optionEnd})), said(request, given, netip.Addr{})},
		"a client restarts":          {toServer(typed(request), asks(given)), said(request, given, netip.Addr{})},
		"a client extends its lease": {broadcast(serverPort, with(dhcpMessage(bootRequest, typed(request)), ciaddrAt, given)), said(request, given, netip.Addr{})},
		"an offer":                   {broadcast(clientPort, with(dhcpMessage(bootReply, typed(offer), by(router)), yiaddrAt, given)), said(offer, given, router)},
		"a lease":                    {broadcast(clientPort, with(dhcpMessage(bootReply, typed(ack), by(router)), yiaddrAt, given)), said(ack, given, router)},
		"a refusal":                  {broadcast(clientPort, dhcpMessage(bootReply, typed(nak), by(router))), said(nak, netip.Addr{}, router)},
		"a malformed server option":  {toServer(typed(request), asks(given), option(optionServer, 192, 0, 2)), said(request, given, netip.Addr{})},
	} {
		got, ok := parse(tt.packet)
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(message{}), cmpopts.EquateComparable(netip.Addr{})); !ok || diff != "" {
			t.Errorf("%s: %t (-want +got):\n%s", name, ok, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	changed := func(at int, values ...byte) []byte {
		b := selecting()
		copy(b[at:], values)
		return b
	}
	const message = 20 + udpHeader
	for name, b := range map[string][]byte{
		"a discover message that suggests an address": toServer(typed(1), asks(given)),
		"an inform message of a host with an address": broadcast(serverPort, with(dhcpMessage(bootRequest, typed(8)), ciaddrAt, given)),
		"a request for no address":                    toServer(typed(request), by(router)),
		"a request for 0.0.0.0":                       toServer(typed(request), asks(netip.IPv4Unspecified())),
		"a request for half an address":               toServer(typed(request), option(optionRequested, 192, 0)),
		"a request for an IPv6 address":               toServer(typed(request), option(optionRequested, make([]byte, 16)...)),
		"a request by a server":                       broadcast(clientPort, dhcpMessage(bootReply, typed(request), asks(given))),
		"a lease by a client":                         broadcast(serverPort, with(dhcpMessage(bootRequest, typed(ack), by(router)), yiaddrAt, given)),
		"a lease of no address":                       broadcast(clientPort, dhcpMessage(bootReply, typed(ack), by(router))),
		"a lease without a server":                    broadcast(clientPort, with(dhcpMessage(bootReply, typed(ack)), yiaddrAt, given)),
		"a refusal by a client":                       toServer(typed(nak)),
		"no type":                                     toServer(asks(given), by(router)),
		"a type of two bytes":                         toServer(option(optionType, 3, 3), asks(given)),
		"an option that is cut short":                 broadcast(serverPort, append(dhcpMessage(bootRequest, typed(request))[:optionsAt+3], optionRequested, 4, 192)),
		"an option without a length":                  broadcast(serverPort, append(dhcpMessage(bootRequest, typed(request))[:optionsAt+3], optionRequested)),
		"no cookie, as BOOTP":                         changed(message+cookieAt, 0),
		"not of Ethernet":                             changed(message+htypeAt, 32),
		"a hardware address of 16 bytes":              changed(message+hlenAt, 16),
		"TCP":                                         changed(9, 6),
		"IPv6":                                        changed(0, 6<<4|5),
		"a header without a length":                   changed(0, 4<<4),
		"the first of some fragments":                 changed(6, 0x20, 0),
		"a later fragment":                            changed(6, 0, 1),
		"longer than it is":                           changed(2, 0xff, 0xff),
		"shorter than its headers":                    changed(2, 0, 27),
		"UDP longer than it is":                       changed(24, 0xff, 0xff),
		"UDP shorter than its header":                 changed(24, 0, 7),
		"cut off in the options":                      selecting()[:message+optionsAt+4],
		"cut off in the header":                       selecting()[:message+10],
		"nothing":                                     nil,
	} {
		if m, ok := parse(b); ok {
			t.Errorf("%s: taken for %+v", name, m)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(selecting())
	f.Add(broadcast(clientPort, with(dhcpMessage(bootReply, typed(ack), by(router)), yiaddrAt, given)))
	f.Add(broadcast(clientPort, dhcpMessage(bootReply, typed(nak), by(router)), 1, 1, 1, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := parse(b)
		if ok && (m.addr.IsValid() == (m.kind == nak) || m.addr.IsValid() && !m.addr.Is4() || len(m.client) != len(phone)) {
			t.Errorf("%x: %+v", b, m)
		}
	})
}

// The filter accepts DHCP only.
func TestFilter(t *testing.T) {
	vm, err := bpf.NewVM(dhcpFilter) // without DropOtherHosts, as the VM has no packet type
	if err != nil {
		t.Fatal(err)
	}
	changed := func(at int, value byte) []byte {
		b := selecting()
		b[at] = value
		return b
	}
	for name, tt := range map[string]struct {
		packet []byte
		passes bool
	}{
		"to the server":              {selecting(), true},
		"to the client":              {broadcast(clientPort, dhcpMessage(bootReply)), true},
		"options of the IPv4 header": {broadcast(serverPort, dhcpMessage(bootRequest), 1, 1, 1, 0), true},
		"not to be fragmented":       {changed(6, 0x40), true},
		"DNS":                        {broadcast(53, dhcpMessage(bootRequest)), false},
		"TCP":                        {changed(9, 6), false},
		"the first of some":          {changed(6, 0x20), false},
		"a later fragment":           {changed(7, 1), false},
		"cut off before the port":    {selecting()[:22], false},
	} {
		if n, err := vm.Run(tt.packet); err != nil || n > 0 != tt.passes {
			t.Errorf("%s: %d bytes pass, %v, want %t", name, n, err, tt.passes)
		}
	}
}
