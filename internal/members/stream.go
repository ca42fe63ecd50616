package members

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"
)

// A connection begins with a handshake, before memberlist sees it. Each side proves that
// it has a gossip key now: the rest is encrypted with keys derived from both sides' nonces, so that
// a recorded connection cannot be replayed.
//
//	client: version (1) | session (16) | nonce (16) | keyed hash of these and the server's endpoint (16)
//	server: session (16) | nonce (16)
//	client: record: generation, endpoint, name
//	server: record: generation, endpoint, name; or the machine that has the name, and the connection ends
//
// A record is its length (2), and as many bytes under AES-GCM, whose nonce counts records.
const (
	helloSize   = 1 + len(session{}) + 16 + 16
	welcomeSize = len(session{}) + 16
	maxRecord   = 16 << 10 // bytes in a record
	// handshakeTimeout bounds the cost of a connection that has not proved the key.
	handshakeTimeout = time.Second
)

// The first byte of the server's last record of a handshake.
const (
	statusWelcome byte = iota + 1
	statusDuplicate
)

// marshal is the identity as one side of a handshake sends it.
func (id identity) marshal() []byte {
	b := binary.BigEndian.AppendUint64(nil, id.generation)
	b = appendText(b, []byte(id.endpoint.String()))
	return append(b, id.name...)
}

func parseIdentity(b []byte, s session) (id identity, err error) {
	if len(b) < 8 {
		return identity{}, errMalformed
	}
	r := reader{b: b[8:]}
	endpoint, err := netip.ParseAddrPort(string(r.text()))
	id = identity{session: s, generation: binary.BigEndian.Uint64(b), name: string(r.b), endpoint: endpoint}
	if r.bad || err != nil || !validName(id.name) {
		return identity{}, errMalformed
	}
	return id, nil
}

// duplicateError reports that another machine has this node's name.
type duplicateError struct{ first netip.AddrPort }

func (e duplicateError) Error() string {
	return fmt.Sprintf("the speaker at %s uses the same node name", e.first)
}

// helloHash proves that the client of a handshake has the key, before the server allocates anything
// for it.
func helloHash(key, hello []byte, server netip.AddrPort) []byte {
	return derive(key, "hello", hello[:helloSize-16], endpointBytes(server))[:16]
}

// newStream returns the connection with the keys of a handshake.
func newStream(conn net.Conn, key, hello, welcome []byte, client bool) *stream {
	s := &stream{Conn: conn}
	s.in = newAEAD(key, "stream to client", hello, welcome)
	s.out = newAEAD(key, "stream to server", hello, welcome)
	if !client {
		s.in, s.out = s.out, s.in
	}
	return s
}

// dialHandshake is the client's side of a handshake. It returns the server's identity.
func dialHandshake(conn net.Conn, keys *keyring, self identity, server netip.AddrPort) (*stream, identity, error) {
	all, _ := keys.get()
	hello := make([]byte, 0, helloSize)
	hello = append(append(hello, envelopeVersion), self.session[:]...)
	hello = append(hello, randomNonce()...)
	hello = append(hello, helloHash(all[0], hello[:helloSize-16:helloSize], server)...)
	if _, err := conn.Write(hello); err != nil {
		return nil, identity{}, err
	}
	welcome := make([]byte, welcomeSize)
	if _, err := io.ReadFull(conn, welcome); err != nil {
		return nil, identity{}, fmt.Errorf("handshake: %w", err)
	}
	s := newStream(conn, all[0], hello, welcome, true)
	if _, err := s.Write(self.marshal()); err != nil {
		return nil, identity{}, err
	}
	answer, err := s.readRecord()
	if err != nil || len(answer) == 0 {
		return nil, identity{}, fmt.Errorf("handshake: %w", errors.Join(err, errMalformed))
	}
	if answer[0] == statusDuplicate {
		first, err := netip.ParseAddrPort(string(answer[1:]))
		return nil, identity{}, errors.Join(duplicateError{first}, err)
	}
	id, err := parseIdentity(answer[1:], session(welcome))
	return s, id, err
}

// acceptHandshake is the server's side, up to the client's identity. A client without a key costs it
// little.
func acceptHandshake(conn net.Conn, keys *keyring, self identity) (*stream, identity, error) {
	hello := make([]byte, helloSize)
	if _, err := io.ReadFull(conn, hello[:1]); err != nil || hello[0] != envelopeVersion {
		return nil, identity{}, errors.Join(err, errMalformed)
	}
	if _, err := io.ReadFull(conn, hello[1:]); err != nil {
		return nil, identity{}, err
	}
	all, _ := keys.get()
	for _, key := range all {
		if !hmac.Equal(helloHash(key, hello, self.endpoint), hello[helloSize-16:]) {
			continue
		}
		welcome := slices.Concat(self.session[:], randomNonce())
		if _, err := conn.Write(welcome); err != nil {
			return nil, identity{}, err
		}
		s := newStream(conn, key, hello, welcome, false)
		said, err := s.readRecord()
		if err != nil {
			return nil, identity{}, err
		}
		id, err := parseIdentity(said, session(hello[1:]))
		return s, id, err
	}
	return nil, identity{}, errForged
}

func randomNonce() []byte {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	return b
}

// stream is a connection after its handshake.
type stream struct {
	net.Conn
	in, out           cipher.AEAD
	received, written uint64 // records
	rest              []byte // of the record that is being read
	begun             bool   // memberlist has begun to read
}

var _ net.Conn = (*stream)(nil)

func (s *stream) Write(b []byte) (n int, err error) {
	packet := make([]byte, 0, 2+min(len(b), maxRecord)+tagSize)
	for len(b) > 0 {
		part := b[:min(len(b), maxRecord)]
		packet = binary.BigEndian.AppendUint16(packet[:0], uint16(len(part)+tagSize)) //nolint:gosec // at most maxRecord and a tag
		packet = s.out.Seal(packet, nonce(s.written), part, packet)
		s.written++
		if _, err := s.Conn.Write(packet); err != nil {
			return n, err
		}
		n, b = n+len(part), b[len(part):]
	}
	return n, nil
}

func (s *stream) Read(b []byte) (int, error) {
	if len(s.rest) == 0 {
		record, err := s.readRecord()
		if err != nil {
			return 0, err
		}
		if !s.begun && !opensStream(record[0]) {
			return 0, errMalformed
		}
		s.rest, s.begun = record, true
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// readRecord returns the next record. A peer without the key makes it allocate one at most.
func (s *stream) readRecord() ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(s.Conn, head[:]); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint16(head[:]))
	if size <= tagSize || size > maxRecord+tagSize {
		return nil, errMalformed
	}
	sealed := make([]byte, size)
	if _, err := io.ReadFull(s.Conn, sealed); err != nil {
		return nil, noEOF(err)
	}
	record, err := s.in.Open(sealed[:0], nonce(s.received), sealed, head[:])
	s.received++
	return record, err
}

// noEOF makes an end inside a record an unexpected one.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
