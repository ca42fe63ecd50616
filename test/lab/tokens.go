package lab

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// BoundSpeaker asks the API server for a token of the speaker's ServiceAccount that
// is bound to an object, a Pod of Fairlead's namespace or a Node, as the tokens of
// real speakers are. The token's user is called name from then on, for Kubeconfig
// and REST.
func (l *Lab) BoundSpeaker(ctx context.Context, name string, to client.Object) error {
	api, err := l.API()
	if err != nil {
		return err
	}
	kind, err := api.GroupVersionKindFor(to)
	if err != nil {
		return fmt.Errorf("token for %s: %w", name, err)
	}
	if err := api.Get(ctx, client.ObjectKeyFromObject(to), to); err != nil {
		return fmt.Errorf("token for %s: %w", name, err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: "fairlead-speaker"}}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: new(int64(24 * 60 * 60)), // no kubelet renews it
		BoundObjectRef: &authenticationv1.BoundObjectReference{
			APIVersion: kind.GroupVersion().String(), Kind: kind.Kind, Name: to.GetName(), UID: to.GetUID(),
		},
	}}
	if err := api.SubResource("token").Create(ctx, account, request); err != nil {
		return fmt.Errorf("token for %s: %w", name, err)
	}
	config, err := clientcmd.LoadFromFile(l.Kubeconfig(Speaker))
	if err != nil {
		return err
	}
	for _, user := range config.AuthInfos {
		user.Token = request.Status.Token
	}
	return clientcmd.WriteToFile(*config, l.Kubeconfig(name))
}
