package members

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"
)

// Every datagram between speakers is one envelope: a header, which is authenticated and not
// encrypted, and a body under AES-GCM.
//
//	version (1) | kind (1) | session of the sender (16) | number (8) | body | tag (16)
//
// The key is derived from a gossip key, the sender's session and the receiver's address,
// so that no other receiver accepts the packet, and the number can be the nonce.
const (
	// envelopeVersion is the first byte. A later format has another one; speakers that do not
	// know it drop the packet.
	envelopeVersion = 0xf3
	headerSize      = 1 + 1 + len(session{}) + 8
	tagSize         = 16
	// envelopeOverhead is what an envelope adds to its body. An empty body is refused.
	envelopeOverhead = headerSize + tagSize
)

// session identifies one run of a speaker: random bytes.
type session [16]byte

func newSession() (s session) {
	rand.Read(s[:]) // never fails
	return s
}

// kind is what the body of an envelope is.
type kind byte

const (
	kindHeartbeat  kind = iota + 1
	kindNews            // a number, and a message
	kindAck             // numbers of messages that were received
	kindMemberlist      // a packet of memberlist
	kindChallenge       // a nonce
	kindResponse        // the nonce, and the identity of the sender
	kindDuplicate       // another machine uses the receiver's node name
	kindEnd
)

type header struct {
	kind    kind
	session session
	number  uint64
}

func (h header) append(b []byte) []byte {
	b = append(b, envelopeVersion, byte(h.kind))
	b = append(b, h.session[:]...)
	return binary.BigEndian.AppendUint64(b, h.number)
}

// parseHeader parses a packet's header. It is not ok if the packet is not an envelope, which is
// cheap to check.
func parseHeader(packet []byte) (h header, ok bool) {
	if len(packet) <= envelopeOverhead || packet[0] != envelopeVersion {
		return header{}, false
	}
	h.kind = kind(packet[1])
	copy(h.session[:], packet[2:])
	h.number = binary.BigEndian.Uint64(packet[headerSize-8:])
	return h, h.kind >= kindHeartbeat && h.kind < kindEnd
}

// derive returns the key for one purpose between parties that these parts name.
func derive(gossipKey []byte, purpose string, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, gossipKey)
	for _, part := range append([][]byte{[]byte("fairlead " + purpose)}, parts...) {
		mac.Write(binary.AppendUvarint(nil, uint64(len(part))))
		mac.Write(part)
	}
	return mac.Sum(nil)
}

// newAEAD returns AES-256-GCM with a derived key.
func newAEAD(gossipKey []byte, purpose string, parts ...[]byte) cipher.AEAD {
	block, err := aes.NewCipher(derive(gossipKey, purpose, parts...))
	if err != nil {
		panic(err) // 32 bytes are a valid key
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// datagramAEAD is the cipher of one sender's envelopes to one receiver. The receiver is the endpoint
// that the sender sends to, without the zone, which differs between hosts.
func datagramAEAD(gossipKey []byte, from session, to netip.AddrPort) cipher.AEAD {
	return newAEAD(gossipKey, "datagram", from[:], endpointBytes(to))
}

// challengeAEAD is the cipher of challenges. As they are sent to addresses that may be forged, there
// is no state for them, and their numbers are random.
func challengeAEAD(gossipKey []byte, from session, to netip.AddrPort) cipher.AEAD {
	return newAEAD(gossipKey, "challenge", from[:], endpointBytes(to))
}

func endpointBytes(e netip.AddrPort) []byte {
	return binary.BigEndian.AppendUint16(e.Addr().Unmap().WithZone("").AsSlice(), e.Port())
}

// seal returns the envelope.
func seal(aead cipher.AEAD, h header, body []byte) []byte {
	packet := h.append(make([]byte, 0, len(body)+envelopeOverhead))
	return aead.Seal(packet, nonce(h.number), body, packet)
}

// open returns the body of an envelope.
func open(aead cipher.AEAD, h header, packet []byte) ([]byte, error) {
	return aead.Open(nil, nonce(h.number), packet[headerSize:], packet[:headerSize])
}

func nonce(number uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 4, 12), number)
}

// keyring is the gossip keys in use: all are accepted, the first seals.
type keyring struct {
	mu      sync.Mutex // guards the fields below
	keys    [][]byte
	edition uint64 // incremented on every change
}

func (k *keyring) set(keys [][]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = keys
	k.edition++
}

// get returns the keys, which callers must not write to, and their edition.
func (k *keyring) get() (keys [][]byte, edition uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys, k.edition
}

// mostChannels bounds the memory for receivers, about 1 KiB each.
const mostChannels = 4096

// sealer seals the packets that this speaker sends.
type sealer struct {
	keys    *keyring
	session session
	born    time.Time

	mu       sync.Mutex // guards the field below
	channels map[netip.AddrPort]*channel
}

// channel is the state for one receiver.
type channel struct {
	aead    cipher.AEAD
	edition uint64 // of the keys
	number  uint64 // of the last envelope
}

func newSealer(keys *keyring, own session) *sealer {
	return &sealer{keys: keys, session: own, born: time.Now(), channels: map[netip.AddrPort]*channel{}}
}

// seal returns the envelope of a body for one receiver.
func (s *sealer) seal(k kind, body []byte, to netip.AddrPort) []byte {
	keys, edition := s.keys.get()
	s.mu.Lock()
	c := s.channels[to]
	if c == nil {
		if len(s.channels) >= mostChannels {
			clear(s.channels)
		}
		// A channel that was dropped and is created again must continue with higher numbers:
		// no speaker sends an envelope every nanosecond.
		c = &channel{number: uint64(time.Since(s.born))} //nolint:gosec // time goes forward
		s.channels[to] = c
	}
	if c.aead == nil || c.edition != edition {
		c.aead, c.edition = datagramAEAD(keys[0], s.session, to), edition
	}
	c.number++
	h, aead := header{kind: k, session: s.session, number: c.number}, c.aead
	s.mu.Unlock()
	return seal(aead, h, body)
}

// challenge returns the envelope of a challenge, under the key that its receiver has sealed with.
func (s *sealer) challenge(key []byte, nonce [16]byte, to netip.AddrPort) []byte {
	var random [8]byte
	rand.Read(random[:])
	h := header{kind: kindChallenge, session: s.session, number: binary.BigEndian.Uint64(random[:])}
	return seal(challengeAEAD(key, s.session, to), h, nonce[:])
}
