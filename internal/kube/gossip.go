package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The Secret with which the speakers encrypt what they tell each other.
const (
	GossipSecret    = "fairlead-gossip"
	GossipSecretKey = "key" // what they encrypt with; all else in the Secret they understand as well

	// GossipTermAnnotation is on the Secret: the term of what speakers say. A later one leaves behind
	// what was said before.
	GossipTermAnnotation = "fairlead.dev/gossip-term"
)

// ReadGossip reads the keys and the term from the API server, as GossipKeys and GossipTerm.
func ReadGossip(ctx context.Context, c client.Reader, namespace string) (keys [][]byte, term uint64, err error) {
	var s corev1.Secret
	if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: GossipSecret}, &s); err != nil {
		return nil, 0, fmt.Errorf("get Secret %s/%s: %w", namespace, GossipSecret, err)
	}
	keys, err = GossipKeys(namespace, s.Data)
	if err != nil {
		return nil, 0, err
	}
	term, err = GossipTerm(namespace, s.Annotations[GossipTermAnnotation])
	return keys, term, err
}

// GossipTerm returns the term that the annotation of the Secret says; without one it is 0.
func GossipTerm(namespace, annotation string) (uint64, error) {
	if annotation == "" {
		return 0, nil
	}
	term, err := strconv.ParseUint(annotation, 10, 48)
	if err != nil {
		return 0, fmt.Errorf("Secret %s/%s: annotation %s is %q; write a whole number up to 2^48, such as the time in seconds (date +%%s)",
			namespace, GossipSecret, GossipTermAnnotation, annotation)
	}
	return term, nil
}

// GossipKeys returns the keys in the data of the Secret: first the one to encrypt
// with, then the others that are understood, in the order of their names. Each has
// 16, 24 or 32 bytes, for AES-128, -192 or -256.
func GossipKeys(namespace string, data map[string][]byte) ([][]byte, error) {
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(data)), func(name string) bool { return name == GossipSecretKey })
	var keys [][]byte
	for _, name := range append([]string{GossipSecretKey}, names...) {
		switch key := data[name]; len(key) {
		case 16, 24, 32:
			keys = append(keys, key)
		default:
			return nil, fmt.Errorf("Secret %s/%s: data.%s has %d bytes; write 32 random ones, or delete the Secret: the controller creates it again",
				namespace, GossipSecret, name, len(key))
		}
	}
	return keys, nil
}

// Fingerprint tells gossip keys apart without giving them away.
func Fingerprint(key []byte) string {
	sum := sha256.Sum256(append([]byte("fairlead gossip key "), key...))
	return hex.EncodeToString(sum[:4])
}
