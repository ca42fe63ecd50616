package members

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"hash"
	"sync"
)

// The first byte of a packet that is not memberlist's: its own are encrypted, and
// begin with the encryption's version, 0 or 1.
const (
	pulseKind = 0xf1
	newsKind  = 0xf2
)

const sealSize = 16 // bytes of the keyed hash that a pulse's packet ends with

// stamp tells a pulse from the speaker's earlier ones, which somebody may repeat.
type stamp struct {
	run  uint64 // Config.Generation
	beat uint64 // number in that run
}

func (s stamp) after(t stamp) bool { return s.run > t.run || s.run == t.run && s.beat > t.beat }

// sealer makes and checks the packets of pulses and news, with a gossip key. A pulse's
// is kind, stamp, the speaker's name, and a hash of these with the key, which shows that
// a speaker has sent it. One of news is kind, and a message encrypted by AES-GCM. A
// sealer is for one goroutine at a time.
type sealer struct {
	pulse hash.Hash
	news  cipher.AEAD
}

// newSealer returns a sealer for a gossip key. Each kind has a key of its own made from
// it, since memberlist uses the key itself otherwise.
func newSealer(key []byte) (sealer, error) {
	block, err := aes.NewCipher(derived(key, "fairlead news"))
	if err != nil {
		return sealer{}, err
	}
	news, err := cipher.NewGCMWithRandomNonce(block)
	return sealer{hmac.New(sha256.New, derived(key, "fairlead pulse")), news}, err
}

func derived(key []byte, purpose string) []byte {
	own := hmac.New(sha256.New, key)
	own.Write([]byte(purpose))
	return own.Sum(nil)
}

func (s sealer) sum(b []byte) []byte {
	s.pulse.Reset()
	s.pulse.Write(b)
	return s.pulse.Sum(nil)[:sealSize]
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

// encrypt returns the packet of a message.
func (s sealer) encrypt(msg []byte) []byte {
	head := []byte{newsKind}
	return s.news.Seal(head, nil, msg, head)
}

// decrypt returns the message in a packet. It fails if no speaker of this cluster has
// sent it.
func (s sealer) decrypt(b []byte) ([]byte, error) {
	return s.news.Open(nil, nil, b[1:], b[:1])
}

// seals are the sealers of all keys that are in use.
type seals struct {
	mu  sync.Mutex // guards the field below
	all []sealer   // what is sent is sealed with the first
}

func (s *seals) set(keys [][]byte) error {
	all := make([]sealer, 0, len(keys))
	for _, k := range keys {
		sealer, err := newSealer(k)
		if err != nil {
			return err
		}
		all = append(all, sealer)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = all
	return nil
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

func (s *seals) encrypt(msg []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[0].encrypt(msg)
}

// decrypt is sealer.decrypt with whichever key fits.
func (s *seals) decrypt(b []byte) (msg []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.all {
		if msg, err = k.decrypt(b); err == nil {
			return msg, nil
		}
	}
	return nil, err
}
