package speaker

import (
	"bytes"
	"slices"
	"time"
)

// When all gossip keys are replaced at once, as after the Secret was deleted, each speaker reads
// that at a moment of its own. It understands both, and encrypts with the old one until
// the others understand the new one, and understands the old one until they use it no more.
const (
	encryptWithOldFor = 5 * time.Second
	understandOldFor  = time.Minute
)

// keyring decides which gossip keys are in use.
type keyring struct {
	now    func() time.Time
	target [][]byte  // those in the Secret
	old    [][]byte  // those before, none of which is in the Secret; nil if there are none
	since  time.Time // when they were replaced
}

// next returns the keys to use, first the one to encrypt with, and when to ask again: 0 if that does not
// matter.
func (k *keyring) next(inSecret [][]byte) (use [][]byte, again time.Duration) {
	if !slices.EqualFunc(inSecret, k.target, bytes.Equal) {
		current, _ := k.inUse()
		k.old, k.target, k.since = nil, inSecret, k.now()
		if !hasKey(inSecret, current[0]) {
			k.old = slices.DeleteFunc(slices.Clone(current), func(key []byte) bool { return hasKey(inSecret, key) })
		}
	}
	return k.inUse()
}

func (k *keyring) inUse() (use [][]byte, again time.Duration) {
	age := k.now().Sub(k.since)
	switch {
	case k.old == nil:
		return k.target, 0
	case age < encryptWithOldFor:
		return slices.Concat(k.old[:1], k.target, k.old[1:]), encryptWithOldFor - age
	case age < understandOldFor:
		return slices.Concat(k.target, k.old), understandOldFor - age
	default:
		k.old = nil
		return k.target, 0
	}
}

func hasKey(keys [][]byte, key []byte) bool {
	return slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
}
