// Package gossipkey makes the Secret with which the speakers encrypt what they
// tell each other, whenever it is not there.
package gossipkey

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/retry"
)

const (
	// retryEvery is how long to wait after a failure, as when the namespace is not
	// there yet.
	retryEvery = time.Second
	// createEvery is how often the Secret is created. Mostly the API server says that it is there. A
	// watch would need the right to read it.
	createEvery = 5 * time.Second
)

// keySize is for AES-256.
const keySize = 32

// Controller makes the Secret, while this controller leads.
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

// Start makes the Secret whenever it is not there, until ctx ends. One that is there is left as it
// is: speakers use it.
func (c *Controller) Start(ctx context.Context) error {
	failed := func(err error) {
		ctrl.LoggerFrom(ctx).Error(err, "creating the gossip Secret failed; retrying", "controller", c.Name())
	}
	for retry.Until(ctx, retryEvery, c.ensure, failed) == nil && retry.Sleep(ctx, createEvery) == nil {
	}
	return nil
}

func (c *Controller) ensure(ctx context.Context) error {
	key := make([]byte, keySize)
	rand.Read(key) // never fails
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: c.namespace, Name: kube.GossipSecret,
			// The term of a Secret that replaces another one is later than that one's.
			Annotations: map[string]string{kube.GossipTermAnnotation: strconv.FormatInt(time.Now().Unix(), 10)},
		},
		Data: map[string][]byte{kube.GossipSecretKey: key},
	}
	if err := c.client.Create(ctx, secret); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create Secret %s/%s: %w", c.namespace, kube.GossipSecret, err)
	}
	return nil
}
