package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The Secret with which the speakers encrypt what they tell each other.
const (
	GossipSecret    = "fairlead-gossip"
	GossipSecretKey = "key" // 16, 24 or 32 bytes
)

// GossipKey reads the key from the API server.
func GossipKey(ctx context.Context, c client.Reader, namespace string) ([]byte, error) {
	var s corev1.Secret
	if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: GossipSecret}, &s); err != nil {
		return nil, fmt.Errorf("get Secret %s/%s: %w", namespace, GossipSecret, err)
	}
	switch key := s.Data[GossipSecretKey]; len(key) {
	case 16, 24, 32:
		return key, nil
	default:
		return nil, fmt.Errorf("Secret %s/%s: data.%s has %d bytes; write 32 random ones, or delete the Secret and restart the controller",
			namespace, GossipSecret, GossipSecretKey, len(key))
	}
}
