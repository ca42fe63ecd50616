package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// build compiles a program so that nothing of this machine gets into it: no
// paths, no C library, no build identity, no processor newer than the oldest.
func build(ctx context.Context, root, version, arch, pkg, out string) error {
	out, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	flags := "-s -w -buildid= -X github.com/fairlead-lb/fairlead/internal/version.version=" + version
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", out, "./"+pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off",
		"GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "PWD=")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, said)
	}
	return nil
}
