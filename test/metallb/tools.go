//go:build tools

// Package metallb pins the MetalLB that the migration is tested with. It is a
// module of its own, so that MetalLB's dependencies do not become ours.
package metallb

import (
	_ "go.universe.tf/metallb/controller"
	_ "go.universe.tf/metallb/speaker"
)
