package bgp

import (
	"bytes"
	"slices"
	"testing"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
)

// advertisement returns a router advertisement with these bytes as its options.
func advertisement(options ...byte) []byte {
	return append([]byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}, options...)
}

func TestRouterAdvertisementIsChecked(t *testing.T) {
	sourceAddress := []byte{1, 1, 2, 0, 0, 0, 0, 1}
	unknown := []byte{250, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	code := advertisement()
	code[1] = 1
	noDefaultRouter := advertisement()
	noDefaultRouter[6], noDefaultRouter[7] = 0, 0
	solicitation := advertisement()
	solicitation[0] = byte(ipv6.ICMPTypeRouterSolicitation)
	for _, c := range []struct {
		name     string
		message  []byte
		hopLimit int
		want     bool
	}{
		{"without options", advertisement(), 255, true},
		{"with the usual option and one that is unknown", advertisement(slices.Concat(sourceAddress, unknown)...), 255, true},
		{"with an option that the library rejects", advertisement(1, 2, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), 255, true},
		{"with lifetime 0", noDefaultRouter, 255, true},
		{"forwarded by a router", advertisement(), 254, false},
		{"without a hop limit", advertisement(), 0, false},
		{"with a code", code, 255, false},
		{"another type", solicitation, 255, false},
		{"shorter than its fixed part", advertisement()[:15], 255, false},
		{"empty", nil, 255, false},
		{"with an option of length 0", advertisement(1, 0, 0, 0, 0, 0, 0, 0), 255, false},
		{"with an option that ends after the message", advertisement(1, 2, 0, 0, 0, 0, 0, 0), 255, false},
		{"with half an option header", advertisement(1), 255, false},
		{"with bytes after the last option", advertisement(append(slices.Clone(sourceAddress), 0)...), 255, false},
	} {
		if got := isRouterAdvertisement(c.message, c.hopLimit); got != c.want {
			t.Errorf("%s: %v; want %v", c.name, got, c.want)
		}
	}
}

func TestEchoReplyAnswersOurRequest(t *testing.T) {
	marshal := func(kind icmp.Type, id int) []byte {
		b, err := (&icmp.Message{Type: kind, Body: &icmp.Echo{ID: id, Seq: 1}}).Marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	reply := marshal(ipv6.ICMPTypeEchoReply, 0xfa11)
	for _, c := range []struct {
		name    string
		message []byte
		want    bool
	}{
		{"the reply", reply, true},
		{"the reply to another program", marshal(ipv6.ICMPTypeEchoReply, 0xfa12), false},
		{"a request", marshal(ipv6.ICMPTypeEchoRequest, 0xfa11), false},
		{"a router advertisement", advertisement(), false},
		{"a reply that is cut short", reply[:7], false},
		{"nothing", nil, false},
	} {
		if got := isEchoReply(c.message, 0xfa11); got != c.want {
			t.Errorf("%s: %v; want %v", c.name, got, c.want)
		}
	}
}

// What a node sends is what RFC 4861 has for it: a solicitation without options, as the node's
// link-layer address is in the frame, and an advertisement of a node that is nobody's router.
func TestRouterDiscoveryMessages(t *testing.T) {
	for _, c := range []struct {
		message ndp.Message
		want    []byte
	}{
		{&ndp.RouterSolicitation{}, []byte{133, 0, 0, 0, 0, 0, 0, 0}},
		{&ndp.RouterAdvertisement{}, append([]byte{134}, make([]byte, 15)...)},
	} {
		// The kernel overwrites the checksum, bytes 2 and 3.
		got, err := ndp.MarshalMessage(c.message)
		if err != nil || len(got) < 4 || !bytes.Equal(got[4:], c.want[4:]) || got[0] != c.want[0] || got[1] != 0 {
			t.Errorf("%T: % x, %v; want % x", c.message, got, err, c.want)
		}
	}
}

// FuzzRouterDiscovery: of what a neighbour sends, only a whole router advertisement from this link
// makes it a router.
func FuzzRouterDiscovery(f *testing.F) {
	f.Add(advertisement(1, 1, 2, 0, 0, 0, 0, 1), 255)
	f.Add(advertisement(1, 0), 255)
	f.Add([]byte{129, 0, 0, 0, 0xfa, 0x11, 0, 1}, 64)
	f.Fuzz(func(t *testing.T, message []byte, hopLimit int) {
		if isRouterAdvertisement(message, hopLimit) && (hopLimit != 255 || len(message) < 16 || message[0] != 134 || message[1] != 0) {
			t.Errorf("% x with hop limit %d is believed", message, hopLimit)
		}
		isEchoReply(message, 0xfa11)
	})
}
