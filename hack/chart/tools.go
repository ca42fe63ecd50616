//go:build tools

package main

// Helm itself, for what has to be done as a user does it: `make helm`.
import _ "helm.sh/helm/v4/cmd/helm"
