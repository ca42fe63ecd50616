package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// user runs the programs unless the pod says otherwise: the "nonroot" that other
// images without a passwd file have too. The speaker's pod says otherwise, as a
// capability that a pod adds takes effect for root only.
const user = "65532:65532"

const (
	source = "https://github.com/fairlead-lb/fairlead"
	spdx   = "https://spdx.dev/Document" // the predicate that scanners look for
)

// About is what the image says of itself.
type About struct {
	Version    string
	Revision   string // commit, or empty
	Created    int64  // Unix time
	Entrypoint string // what runs in a container that names no command, or empty
}

func (a About) time() v1.Time { return v1.Time{Time: time.Unix(a.Created, 0).UTC()} }

// labels are the keys of the OCI image specification, annotations.md.
func (a About) labels() map[string]string {
	l := map[string]string{
		"org.opencontainers.image.title":         "Fairlead",
		"org.opencontainers.image.description":   "Addresses for Services of type LoadBalancer on bare metal",
		"org.opencontainers.image.source":        source,
		"org.opencontainers.image.documentation": source + "/blob/main/docs/install.md",
		"org.opencontainers.image.licenses":      "Apache-2.0",
		"org.opencontainers.image.version":       a.Version,
		"org.opencontainers.image.created":       a.time().Format(time.RFC3339),
	}
	if a.Revision != "" {
		l["org.opencontainers.image.revision"] = a.Revision
	}
	return l
}

// File is a program.
type File struct {
	Name    string
	Content []byte
}

// Platform is the image for one architecture.
type Platform struct {
	v1.Image
	Arch     string
	Unpacked int64  // bytes of its files
	SBOM     []byte // SPDX 2.3, JSON
}

// Download is what a node downloads: layer, config and manifest.
func (p Platform) Download() (int64, error) {
	m, err := p.Manifest()
	if err != nil {
		return 0, err
	}
	own, err := p.Image.Size()
	size := own + m.Config.Size
	for _, l := range m.Layers {
		size += l.Size
	}
	return size, err
}

// Image makes an image of nothing but the files.
func Image(about About, arch string, files []File) (Platform, error) {
	p := Platform{Arch: arch}
	layer, err := layer(files)
	if err != nil {
		return p, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	config := v1.Config{User: user, WorkingDir: "/", Env: []string{"PATH=/"}, Labels: about.labels()}
	if about.Entrypoint != "" {
		config.Entrypoint = []string{about.Entrypoint}
	}
	p.Image, err = mutate.ConfigFile(base, &v1.ConfigFile{
		OS: "linux", Architecture: arch, Created: about.time(), RootFS: v1.RootFS{Type: "layers"}, Config: config,
	})
	if err != nil {
		return p, err
	}
	p.Image, err = mutate.Append(p.Image, mutate.Addendum{
		Layer: layer, MediaType: types.OCILayer,
		History: v1.History{Created: about.time(), CreatedBy: "make images", Comment: "Fairlead " + about.Version},
	})
	if err != nil {
		return p, err
	}
	p.Image = mutate.Annotations(p.Image, about.labels()).(v1.Image)
	for _, f := range files {
		p.Unpacked += int64(len(f.Content))
	}
	p.SBOM, err = SBOM(about, arch, files)
	return p, err
}

// layer is a tar with no owner but root, no time, and only what may be executed.
func layer(files []File) (v1.Layer, error) {
	var raw bytes.Buffer
	w := tar.NewWriter(&raw)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Mode: 0o555, Size: int64(len(f.Content)), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithCompressionLevel(gzip.BestCompression), tarball.WithMediaType(types.OCILayer))
}

// Index joins the images, each followed by its SBOM. The SBOM is attached as
// BuildKit does it, as one more manifest of the index, for a platform that no
// machine has: so every tool that copies the index takes it along, also those
// which know nothing of referrers.
func Index(about About, images []Platform) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range images {
		digest, err := p.Digest()
		if err != nil {
			return nil, err
		}
		sbom, err := attestation(digest, p.SBOM)
		if err != nil {
			return nil, fmt.Errorf("attach the SBOM of %s: %w", p.Arch, err)
		}
		index = mutate.AppendManifests(index,
			mutate.IndexAddendum{Add: p.Image, Descriptor: v1.Descriptor{
				MediaType: types.OCIManifestSchema1, Platform: &v1.Platform{OS: "linux", Architecture: p.Arch},
			}},
			mutate.IndexAddendum{Add: sbom, Descriptor: v1.Descriptor{
				MediaType: types.OCIManifestSchema1, Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"},
				Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": digest.String()},
			}})
	}
	return mutate.Annotations(index, about.labels()).(v1.ImageIndex), nil
}

// attestation says of an image, as an in-toto statement, what is in it.
func attestation(subject v1.Hash, sbom []byte) (v1.Image, error) {
	statement, err := json.Marshal(map[string]any{
		"_type": "https://in-toto.io/Statement/v0.1", "predicateType": spdx,
		"subject":   []any{map[string]any{"name": "fairlead", "digest": map[string]string{subject.Algorithm: subject.Hex}}},
		"predicate": json.RawMessage(sbom),
	})
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.ConfigFile(base, &v1.ConfigFile{OS: "unknown", Architecture: "unknown", RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		return nil, err
	}
	return mutate.Append(image, mutate.Addendum{
		Layer:       static.NewLayer(statement, "application/vnd.in-toto+json"),
		Annotations: map[string]string{"in-toto.io/predicate-type": spdx},
	})
}
