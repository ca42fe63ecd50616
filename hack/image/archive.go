package main

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// Archive writes the index as a tar of an OCI image layout (image-layout.md of
// the specification): what `ctr images import`, `skopeo copy oci-archive:` and
// others read. work is a folder that may be filled.
func Archive(index v1.ImageIndex, name, tag, work, out string) error {
	l, err := layout.Write(work, empty.Index)
	if err != nil {
		return err
	}
	names := map[string]string{
		"org.opencontainers.image.ref.name": tag,
		"io.containerd.image.name":          name + ":" + tag, // the name that containerd gives it
	}
	if err := l.AppendIndex(index, layout.WithAnnotations(names)); err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	return errors.Join(pack(f, os.DirFS(work)), f.Close())
}

// pack writes a folder's files in the order of their names, with no owner or time.
func pack(out io.Writer, from fs.FS) error {
	w := tar.NewWriter(out)
	err := fs.WalkDir(from, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		h := &tar.Header{Name: filepath.ToSlash(name), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if d.IsDir() {
			h.Typeflag, h.Mode, h.Name = tar.TypeDir, 0o755, strings.TrimSuffix(h.Name, "/")+"/"
			return w.WriteHeader(h)
		}
		content, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		h.Typeflag, h.Mode, h.Size = tar.TypeReg, 0o644, int64(len(content))
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
	return errors.Join(err, w.Close())
}
