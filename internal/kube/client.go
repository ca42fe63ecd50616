package kube

import (
	"fmt"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// RESTConfig returns how to reach the API server: by the kubeconfig file if a
// path is given, else as a pod does.
func RESTConfig(kubeconfig, userAgent string) (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reach the API server: %w (set --kubeconfig, or run in a pod)", err)
	}
	// The API server's priority and fairness protects it better than a limit
	// here, which would hold back a burst of Services.
	cfg.QPS = -1
	cfg.UserAgent = userAgent
	return cfg, nil
}
