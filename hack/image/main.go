// Command image builds Fairlead's container image, without a container engine:
// an OCI archive for each architecture that we support, in one index, with what
// is in it (SPDX) attached and in files beside. Other programs of the repository
// can be put into an image in the same way, as the lab does for its pods.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// options are the command line.
type options struct {
	root       string // of the repository
	out        string
	name       string
	version    string
	revision   string
	arches     string
	programs   string
	entrypoint string
	created    int64
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("image", flag.ContinueOnError)
	f.StringVar(&o.root, "root", "../..", "`folder` of the repository")
	f.StringVar(&o.out, "out", "bin/fairlead-image.tar", "`file` to write, relative to the repository")
	f.StringVar(&o.name, "name", "fairlead", "`name` of the image, without a tag")
	f.StringVar(&o.version, "version", "devel", "`version` of the programs, and tag of the image")
	f.StringVar(&o.revision, "revision", "", "`commit` that is built")
	f.StringVar(&o.arches, "arch", "amd64,arm64", "`list` of architectures")
	f.StringVar(&o.programs, "programs", "cmd/controller,cmd/speaker", "`list` of the packages of the programs, which are in the image's root")
	f.StringVar(&o.entrypoint, "entrypoint", "", "`path` of the program that runs where none is named; none, as Fairlead's manifests name one")
	f.Int64Var(&o.created, "created", 0, "Unix `time` that the image is said to be from: the commit's, so that the same commit is the same image")
	return o, f.Parse(args)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "fairlead-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)

	about := About{Version: o.version, Revision: o.revision, Created: o.created, Entrypoint: o.entrypoint}
	var images []Platform
	for arch := range strings.SplitSeq(o.arches, ",") {
		p, err := platform(ctx, o, about, arch, filepath.Join(work, arch))
		if err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
		images = append(images, p)
	}
	index, err := Index(about, images)
	if err != nil {
		return err
	}
	out := o.out
	if !filepath.IsAbs(out) {
		out = filepath.Join(o.root, out)
	}
	if err := write(o, index, images, out, filepath.Join(work, "layout")); err != nil {
		return err
	}
	return tell(o, index, images)
}

// platform builds the programs for one architecture, and makes its image.
func platform(ctx context.Context, o options, about About, arch, dir string) (Platform, error) {
	var files []File
	for pkg := range strings.SplitSeq(o.programs, ",") {
		name := path.Base(pkg)
		file := filepath.Join(dir, name)
		if err := build(ctx, o.root, o.version, arch, pkg, file); err != nil {
			return Platform{}, err
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return Platform{}, err
		}
		files = append(files, File{Name: name, Content: content})
	}
	return Image(about, arch, files)
}

func write(o options, index v1.ImageIndex, images []Platform, out, work string) error {
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	if err := Archive(index, o.name, o.version, work, out); err != nil {
		return err
	}
	for _, p := range images {
		file := strings.TrimSuffix(out, filepath.Ext(out)) + "-" + p.Arch + ".spdx.json"
		if err := os.WriteFile(file, p.SBOM, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// tell says what was built: the digest is what to pin.
func tell(o options, index v1.ImageIndex, images []Platform) error {
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	fmt.Printf("%s:%s %s\n", o.name, o.version, digest)
	for _, p := range images {
		size, err := p.Download()
		if err != nil {
			return err
		}
		fmt.Printf("  linux/%-6s %4.1f MB compressed, %4.1f MB on disk\n", p.Arch, float64(size)/1e6, float64(p.Unpacked)/1e6)
	}
	return nil
}
