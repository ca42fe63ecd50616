package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Image is a container image in an archive.
type Image struct {
	Name    string // with its tag
	Archive string // the file
}

const (
	// FairleadImageName is what the chart calls the image.
	FairleadImageName = "ghcr.io/fairlead-lb/fairlead"

	// PodImage is an image that every node has which runs pods. It holds /backend,
	// which does as backends of other labs do: with arguments such as --node
	// $(NODE_NAME) --name $(POD_NAME) tcp/8080 udp/8080.
	PodImage = podImageRepository + ":" + podImageTag

	podImageRepository = "fairlead.dev/lab/pod"
	podImageTag        = "v1"
)

// FairleadImage builds the image that `make images` does, for this processor only,
// with that version in its programs and as its tag.
func FairleadImage(ctx context.Context, version string) (Image, error) {
	return buildImage(ctx, FairleadImageName, version)
}

// podImage builds what the lab's own pods run; /pause is what holds their
// namespaces.
func podImage(ctx context.Context) (Image, error) {
	return buildImage(ctx, podImageRepository, podImageTag, "-programs", "test/lab/cmd/backend,test/lab/cmd/pause", "-entrypoint", "/pause")
}

func buildImage(ctx context.Context, name, tag string, extra ...string) (Image, error) {
	image := Image{Name: name + ":" + tag}
	repo, err := repository()
	if err != nil {
		return image, err
	}
	dir := filepath.Join(repo, "bin", "images")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return image, fmt.Errorf("build %s: %w", image.Name, err)
	}
	unlock, err := lockFile(filepath.Join(dir, ".lock"))
	if err != nil {
		return image, fmt.Errorf("build %s: %w", image.Name, err)
	}
	defer unlock()
	image.Archive = filepath.Join(dir, strings.NewReplacer("/", "-", ":", "-").Replace(image.Name)+".tar")
	fresh := strings.TrimSuffix(image.Archive, ".tar") + "-new.tar"
	args := []string{"run", "-C", filepath.Join(repo, "hack", "image"), "-buildvcs=false", ".", "-out", fresh, "-name", name, "-version", tag, "-arch", runtime.GOARCH}
	if _, err := output(exec.CommandContext(ctx, "go", append(args, extra...)...)); err != nil {
		return image, err
	}
	return image, os.Rename(fresh, image.Archive) // another lab may be reading the old one
}
