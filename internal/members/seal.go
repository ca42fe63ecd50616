package members

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"hash"
	"sync"
)

const (
	// pulseKind is the first byte of a pulse's packet. memberlist's, which are
	// encrypted, begin with the encryption's version: 0 or 1.
	pulseKind = 0xf1
	sealSize  = 16 // bytes of the keyed hash that a packet ends with
)

// stamp tells a pulse from the speaker's earlier ones, which somebody may repeat.
type stamp struct {
	run  uint64 // Config.Generation
	beat uint64 // number in that run
}

func (s stamp) after(t stamp) bool { return s.run > t.run || s.run == t.run && s.beat > t.beat }

// sealer makes and checks the packets of pulses: kind, stamp, the speaker's name,
// and a hash of these with a key, which shows that a speaker has sent it. A
// sealer is for one goroutine at a time.
type sealer struct{ mac hash.Hash }

// newSealer returns a sealer for a gossip key. Pulses have one of their own made
// from it, since memberlist uses the key itself otherwise.
func newSealer(key []byte) sealer {
	own := hmac.New(sha256.New, key)
	own.Write([]byte("fairlead pulse"))
	return sealer{hmac.New(sha256.New, own.Sum(nil))}
}

func (s sealer) sum(b []byte) []byte {
	s.mac.Reset()
	s.mac.Write(b)
	return s.mac.Sum(nil)[:sealSize]
}

// seal returns the packet of a speaker's pulse.
func (s sealer) seal(node string, at stamp) []byte {
	b := []byte{pulseKind}
	b = binary.BigEndian.AppendUint64(b, at.run)
	b = binary.BigEndian.AppendUint64(b, at.beat)
	b = append(b, node...)
	return append(b, s.sum(b)...)
}

// open returns whose pulse a packet is. It is not ok if no speaker of this cluster
// has sent it.
func (s sealer) open(b []byte) (node string, at stamp, ok bool) {
	const head = 1 + 8 + 8
	end := len(b) - sealSize
	if end < head || b[0] != pulseKind || subtle.ConstantTimeCompare(s.sum(b[:end]), b[end:]) != 1 {
		return "", stamp{}, false
	}
	at = stamp{run: binary.BigEndian.Uint64(b[1:]), beat: binary.BigEndian.Uint64(b[9:])}
	return string(b[head:end]), at, true
}

// seals are the sealers of all keys that are in use.
type seals struct {
	mu  sync.Mutex // guards the field below
	all []sealer   // what is sent is sealed with the first
}

func (s *seals) set(keys [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = nil
	for _, k := range keys {
		s.all = append(s.all, newSealer(k))
	}
}

func (s *seals) seal(node string, at stamp) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[0].seal(node, at)
}

// open is sealer.open with whichever key fits.
func (s *seals) open(b []byte) (node string, at stamp, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 0; i < len(s.all) && !ok; i++ {
		node, at, ok = s.all[i].open(b)
	}
	return node, at, ok
}
