//go:build tools

// Package containers pins the containerd that runs the pods of a lab, as a
// module of its own so that none of its dependencies reach Fairlead's go.mod.
package containers

import (
	_ "github.com/containerd/containerd/v2/cmd/containerd"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
	_ "github.com/containerd/containerd/v2/cmd/ctr"
)
