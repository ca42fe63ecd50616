package main

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"runtime/debug"
	"slices"
	"time"
)

// The parts of SPDX 2.3 that we write; the names are the specification's.
type (
	document struct {
		SPDXVersion       string         `json:"spdxVersion"`
		DataLicense       string         `json:"dataLicense"`
		SPDXID            string         `json:"SPDXID"`
		Name              string         `json:"name"`
		DocumentNamespace string         `json:"documentNamespace"`
		CreationInfo      creation       `json:"creationInfo"`
		Packages          []pkg          `json:"packages"`
		Files             []spdxFile     `json:"files"`
		Relationships     []relationship `json:"relationships"`
	}
	creation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	pkg struct {
		SPDXID           string        `json:"SPDXID"`
		Name             string        `json:"name"`
		VersionInfo      string        `json:"versionInfo,omitempty"`
		DownloadLocation string        `json:"downloadLocation"`
		FilesAnalyzed    bool          `json:"filesAnalyzed"`
		LicenseConcluded string        `json:"licenseConcluded"`
		LicenseDeclared  string        `json:"licenseDeclared"`
		CopyrightText    string        `json:"copyrightText"`
		PrimaryPurpose   string        `json:"primaryPackagePurpose,omitempty"`
		Comment          string        `json:"comment,omitempty"`
		ExternalRefs     []externalRef `json:"externalRefs,omitempty"`
	}
	externalRef struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	spdxFile struct {
		SPDXID           string     `json:"SPDXID"`
		FileName         string     `json:"fileName"`
		FileTypes        []string   `json:"fileTypes"`
		Checksums        []checksum `json:"checksums"`
		LicenseConcluded string     `json:"licenseConcluded"`
		CopyrightText    string     `json:"copyrightText"`
	}
	checksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	relationship struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
)

const unknown = "NOASSERTION"

// SBOM says what is in the files, from what Go's linker wrote into each: the
// modules that are really linked, with their versions and sums.
func SBOM(about About, arch string, files []File) ([]byte, error) {
	root := pkg{
		SPDXID: "SPDXRef-Package-fairlead", Name: "fairlead", VersionInfo: about.Version, DownloadLocation: "git+" + source + ".git", LicenseConcluded: "Apache-2.0",
		LicenseDeclared: "Apache-2.0", CopyrightText: "The Fairlead Authors", PrimaryPurpose: "CONTAINER",
	}
	doc := document{
		SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT", Name: "fairlead-" + about.Version + "-linux-" + arch,
		CreationInfo:  creation{Created: about.time().Format(time.RFC3339), Creators: []string{"Organization: The Fairlead Authors", "Tool: fairlead-hack-image"}},
		Relationships: []relationship{{"SPDXRef-DOCUMENT", "DESCRIBES", root.SPDXID}},
	}
	all := sha256.New()
	modules := map[string]pkg{}
	for _, f := range files {
		all.Write(f.Content)
		file := describe(f)
		doc.Files = append(doc.Files, file)
		doc.Relationships = append(doc.Relationships, relationship{root.SPDXID, "CONTAINS", file.SPDXID})
		info, err := buildinfo.Read(bytes.NewReader(f.Content))
		if err != nil {
			return nil, fmt.Errorf("what is in %s: %w", f.Name, err)
		}
		for _, p := range linked(info) {
			modules[p.SPDXID] = p
			doc.Relationships = append(doc.Relationships, relationship{file.SPDXID, "STATIC_LINK", p.SPDXID})
		}
	}
	// The namespace must be unique for each document: it names what was described.
	doc.DocumentNamespace = fmt.Sprintf("%s/spdx/%s-%x", source, doc.Name, all.Sum(nil)[:16])
	doc.Packages = append([]pkg{root}, slices.SortedFunc(maps.Values(modules), func(a, b pkg) int { return cmp.Compare(a.SPDXID, b.SPDXID) })...)
	return json.MarshalIndent(doc, "", " ")
}

func describe(f File) spdxFile {
	return spdxFile{
		SPDXID: "SPDXRef-File-" + f.Name, FileName: "./" + f.Name, FileTypes: []string{"BINARY"}, LicenseConcluded: unknown, CopyrightText: unknown,
		Checksums: []checksum{ // SPDX asks for SHA1, and allows others beside it
			{"SHA1", fmt.Sprintf("%x", sha1.Sum(f.Content))},
			{"SHA256", fmt.Sprintf("%x", sha256.Sum256(f.Content))},
		},
	}
}

// linked returns Go's library and the modules in a program, in its order.
func linked(info *debug.BuildInfo) []pkg {
	found := []pkg{module("stdlib", info.GoVersion[len("go"):], "")}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		found = append(found, module(m.Path, m.Version, m.Sum))
	}
	return found
}

// notInID is what an SPDX identifier must not have in it.
var notInID = regexp.MustCompile(`[^A-Za-z0-9.]+`)

func module(path, version, sum string) pkg {
	p := pkg{
		SPDXID: "SPDXRef-Package-" + notInID.ReplaceAllString(path+"-"+version, "-"), Name: path, VersionInfo: version,
		DownloadLocation: unknown, LicenseConcluded: unknown, LicenseDeclared: unknown, CopyrightText: unknown,
		ExternalRefs: []externalRef{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + path + "@" + version}},
	}
	if sum != "" {
		p.Comment = "go.sum: " + sum
	}
	return p
}
