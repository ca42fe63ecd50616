package speaker

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/internal/kube"
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
	target [][]byte  // those in the Secret
	old    [][]byte  // those before, none of which is in the Secret; nil if there are none
	since  time.Time // when they were replaced

	used [][]byte // that the gossip uses
	term uint64   // of the gossip
}

func newKeyring(keys [][]byte, term uint64) keyring {
	return keyring{target: keys, used: keys, term: term}
}

// updateKeys has the gossip use the keys and the term that are in the Secret now. While they are
// invalid, or the Secret is gone, those before stay in use.
func (s *Speaker) updateKeys() {
	k := &s.membership.keyring
	data, annotation := s.cluster.GossipSecret()
	keys, term, err := k.target, k.term, error(nil)
	if data != nil {
		var keyErr, termErr error
		if keys, keyErr = kube.GossipKeys(s.cfg.Namespace, data); keyErr != nil {
			keys = k.target
		}
		if term, termErr = kube.GossipTerm(s.cfg.Namespace, annotation); termErr != nil {
			term = k.term
		}
		err = errors.Join(keyErr, termErr)
	}
	use, again := k.next(keys)
	if !slices.EqualFunc(use, k.used, bytes.Equal) {
		err = errors.Join(err, s.Gossip.SetKeys(use))
		k.used = use
		s.wakeAfter(again)
	}
	if term != k.term {
		s.log.Info("the gossip has another term", "before", k.term, "now", term)
		s.Gossip.SetTerm(term)
		k.term = term
	}
	s.health.keys.set(s.log, err, "cannot use what is in the gossip Secret; the keys and the term before stay in use")
}

// next returns the keys to use, first the one to encrypt with, and when to ask again: 0 if that does not
// matter.
func (k *keyring) next(inSecret [][]byte) (use [][]byte, again time.Duration) {
	if !slices.EqualFunc(inSecret, k.target, bytes.Equal) {
		current, _ := k.inUse()
		k.old, k.target, k.since = nil, inSecret, time.Now()
		if !hasKey(inSecret, current[0]) {
			k.old = slices.DeleteFunc(slices.Clone(current), func(key []byte) bool { return hasKey(inSecret, key) })
		}
	}
	return k.inUse()
}

func (k *keyring) inUse() (use [][]byte, again time.Duration) {
	age := time.Since(k.since)
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
