// Package gossipkey makes the Secret with which the speakers encrypt what they
// tell each other.
package gossipkey

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/internal/kube"
)

// retryEvery is how long to wait after a failure, as when the namespace is not
// there yet.
const retryEvery = time.Second

// keySize is for AES-256.
const keySize = 32

// Controller makes the Secret once, when this controller leads.
type Controller struct {
	client    client.Client
	namespace string
}

// New returns a Controller that does nothing until it is registered.
func New(c client.Client, namespace string) *Controller {
	return &Controller{client: c, namespace: namespace}
}

// Name names the controller in logs and metrics.
func (c *Controller) Name() string { return "gossipkey" }

// +kubebuilder:rbac:groups="",namespace=fairlead-system,resources=secrets,verbs=create

// Register adds the controller to the manager.
func (c *Controller) Register(mgr ctrl.Manager) error { return mgr.Add(c) }

// Start makes the Secret and ends. One that is there is left as it is: speakers
// use it.
func (c *Controller) Start(ctx context.Context) error {
	for {
		err := c.ensure(ctx)
		if err == nil {
			return nil
		}
		ctrl.LoggerFrom(ctx).Error(err, "cannot make the gossip key; trying again", "controller", c.Name())
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryEvery):
		}
	}
}

func (c *Controller) ensure(ctx context.Context) error {
	key := make([]byte, keySize)
	rand.Read(key) // never fails
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: kube.GossipSecret},
		Data:       map[string][]byte{kube.GossipSecretKey: key},
	}
	if err := c.client.Create(ctx, secret); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create Secret %s/%s: %w", c.namespace, kube.GossipSecret, err)
	}
	return nil
}
