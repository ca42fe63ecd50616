package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// program is a Go binary that is there anyway, as what is in a program is read
// out of it.
func program(t *testing.T) []byte {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

var about = About{Version: "v1.2.3", Revision: "0123abcd", Created: 1_700_000_000}

func index(t *testing.T, about About, content []byte) (v1.ImageIndex, []Platform) {
	t.Helper()
	var images []Platform
	for _, arch := range []string{"amd64", "arm64"} {
		p, err := Image(about, arch, []File{{"controller", content}, {"speaker", content}})
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, p)
	}
	i, err := Index(about, images)
	if err != nil {
		t.Fatal(err)
	}
	return i, images
}

func archive(t *testing.T, i v1.ImageIndex) []byte {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "image.tar")
	if err := Archive(i, "example.com/fairlead", "v1.2.3", filepath.Join(dir, "layout"), out); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestSameInputIsTheSameArchive(t *testing.T) {
	content := program(t)
	one, _ := index(t, about, content)
	two, _ := index(t, about, content)
	if a, b := archive(t, one), archive(t, two); !bytes.Equal(a, b) {
		t.Errorf("two archives of the same programs differ: %x and %x", sha256.Sum256(a), sha256.Sum256(b))
	}
	later := about
	later.Created++
	three, _ := index(t, later, content)
	if bytes.Equal(archive(t, one), archive(t, three)) {
		t.Error("an archive does not say from when it is")
	}
}

func TestImageIsWhole(t *testing.T) {
	i, images := index(t, about, program(t))
	dir := t.TempDir()
	if err := Archive(i, "example.com/fairlead", "v1.2.3", dir, filepath.Join(t.TempDir(), "image.tar")); err != nil {
		t.Fatal(err)
	}
	name, err := i.Digest()
	if err != nil {
		t.Fatal(err)
	}
	top, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := top.ImageIndex(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range images {
		digest, err := p.Digest()
		if err != nil {
			t.Fatal(err)
		}
		written, err := l.Image(digest) // as others read it
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(written); err != nil {
			t.Errorf("%s: %v", p.Arch, err)
		}
		c, err := p.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if c.Config.User != user || c.Architecture != p.Arch || c.OS != "linux" || c.Config.Labels["org.opencontainers.image.revision"] != about.Revision {
			t.Errorf("%s: %+v", p.Arch, c)
		}
	}
}

func TestEntrypointIsTheOneThatWasNamed(t *testing.T) {
	for _, entrypoint := range []string{"", "/pause"} {
		p, err := Image(About{Entrypoint: entrypoint}, runtime.GOARCH, []File{{"pause", program(t)}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := p.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(c.Config.Entrypoint, " "); got != entrypoint {
			t.Errorf("the entrypoint is %q, want %q", got, entrypoint)
		}
	}
}

func TestArchiveHasOneImageByName(t *testing.T) {
	dir := t.TempDir()
	i, _ := index(t, about, program(t))
	if err := Archive(i, "example.com/fairlead", "v1.2.3", dir, filepath.Join(t.TempDir(), "image.tar")); err != nil {
		t.Fatal(err)
	}
	l, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := l.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Manifests) != 1 || m.Manifests[0].Annotations["io.containerd.image.name"] != "example.com/fairlead:v1.2.3" {
		t.Errorf("index.json has %+v, want one entry with the image's name: tools that import an archive choke on more", m.Manifests)
	}
}

func TestSBOMIsAttachedToItsImage(t *testing.T) {
	i, images := index(t, about, program(t))
	m, err := i.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	attached := map[string]bool{}
	for _, d := range m.Manifests {
		if d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" {
			attached[d.Annotations["vnd.docker.reference.digest"]] = true
		}
	}
	for _, p := range images {
		digest, err := p.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if !attached[digest.String()] {
			t.Errorf("no SBOM is attached to %s %s", p.Arch, digest)
		}
	}
}

func TestSBOMNamesWhatIsLinked(t *testing.T) {
	raw, err := SBOM(about, "amd64", []File{{"speaker", program(t)}})
	if err != nil {
		t.Fatal(err)
	}
	var doc document
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{doc.SPDXID: true}
	purls := map[string]bool{}
	for _, p := range doc.Packages {
		if known[p.SPDXID] {
			t.Errorf("%s is there twice", p.SPDXID)
		}
		known[p.SPDXID] = true
		for _, r := range p.ExternalRefs {
			purls[r.Locator] = true
		}
	}
	for _, f := range doc.Files {
		known[f.SPDXID] = true
	}
	for _, r := range doc.Relationships {
		if !known[r.From] || !known[r.To] {
			t.Errorf("%s %s %s: not in the document", r.From, r.Type, r.To)
		}
	}
	want := "pkg:golang/stdlib@" + strings.TrimPrefix(runtime.Version(), "go")
	if !purls[want] || !hasPrefix(purls, "pkg:golang/github.com/google/go-containerregistry@v") {
		t.Errorf("%v lacks Go's library or a module that this test links", purls)
	}
}

func hasPrefix(set map[string]bool, prefix string) bool {
	for s := range set {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

// TestFolderIsNotInTheProgram builds a program from two folders: where it is built
// must not be in it.
func TestFolderIsNotInTheProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the speaker twice")
	}
	elsewhere := t.TempDir()
	for _, part := range []string{"api", "cmd", "internal"} {
		if err := os.CopyFS(filepath.Join(elsewhere, part), os.DirFS(filepath.Join("../..", part))); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join("../..", file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(elsewhere, file), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var sums [2][32]byte
	for i, root := range []string{"../..", elsewhere} {
		out := filepath.Join(t.TempDir(), "speaker")
		if err := build(t.Context(), root, "v1.2.3", runtime.GOARCH, "cmd/speaker", out); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = sha256.Sum256(content)
	}
	if sums[0] != sums[1] {
		t.Errorf("built in two folders, the speaker is %x and %x", sums[0], sums[1])
	}
}
