// Package licences finds out under which licences the libraries are that our
// programs are built of. Who ships a program has to keep the terms of all of them.
package licences

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// allowed are the licences that ask for no more than to be passed on with the
// program, or, as MPL-2.0 does, for changes to the very files that it covers.
var allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0"}

// platforms are those that the image is made for: files for one may need libraries
// that the other does not.
var platforms = []string{"linux/amd64", "linux/arm64"}

// known is how much of a file must be text of licences that we know, in percent.
// The rest are names of authors; a licence with a clause of its own has less.
const known = 75

// fileName matches the files in which a licence is written down.
var fileName = regexp.MustCompile(`(?i)^(licen[cs]e|copying)([.-].*)?$`)

// Module is a library, as far as it is in our programs.
type Module struct {
	Path    string
	Version string
	Dir     string          // where it is unpacked
	Folders map[string]bool // of the packages that are built in
}

// Built returns the modules in the programs that the patterns name, in the module
// at root.
func Built(root string, patterns ...string) ([]Module, error) {
	modules := map[string]Module{}
	for _, platform := range platforms {
		goos, goarch, _ := strings.Cut(platform, "/")
		cmd := exec.Command("go", append([]string{"list", "-deps", "-json=Dir,Module"}, patterns...)...)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("go list for %s: %w", platform, err)
		}
		if err := add(modules, out); err != nil {
			return nil, fmt.Errorf("go list for %s: %w", platform, err)
		}
	}
	return slices.SortedFunc(maps.Values(modules), func(a, b Module) int { return strings.Compare(a.Path, b.Path) }), nil
}

// add adds to modules what go list wrote.
func add(modules map[string]Module, list []byte) error {
	for d := json.NewDecoder(bytes.NewReader(list)); ; {
		var p struct {
			Dir    string
			Module *struct {
				Path, Version, Dir string
				Main               bool
			}
		}
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case p.Module == nil || p.Module.Main: // Go's own library, and ours
			continue
		}
		m, seen := modules[p.Module.Path]
		if !seen {
			m = Module{Path: p.Module.Path, Version: p.Module.Version, Dir: p.Module.Dir, Folders: map[string]bool{}}
			modules[m.Path] = m
		}
		m.Folders[p.Dir] = true
	}
}

// Check returns a line for each module that has no licence, or one that is not
// allowed.
func Check(modules []Module) (problems []string, err error) {
	if len(modules) == 0 {
		return nil, errors.New("no program has a library in it: nothing was looked at")
	}
	for _, m := range modules {
		files, err := m.files()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.Path, err)
		}
		if len(files) == 0 {
			problems = append(problems, fmt.Sprintf("%s %s has no file with a licence", m.Path, m.Version))
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			if why := refuse(text); why != "" {
				name, _ := filepath.Rel(m.Dir, file)
				problems = append(problems, fmt.Sprintf("%s %s: %s: %s", m.Path, m.Version, name, why))
			}
		}
	}
	return problems, nil
}

// files returns the licences that hold for what is built in: those beside a
// package, and in the folders above it.
func (m Module) files() ([]string, error) {
	folders := map[string]bool{}
	for dir := range m.Folders {
		for ; len(dir) > len(m.Dir); dir = filepath.Dir(dir) {
			folders[dir] = true
		}
	}
	folders[m.Dir] = true
	var files []string
	for dir := range folders {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if fileName.MatchString(e.Name()) && filepath.Ext(e.Name()) != ".go" && !e.IsDir() {
				files = append(files, filepath.Join(dir, e.Name()))
			}
		}
	}
	slices.Sort(files)
	return files, nil
}

// refuse says what is wrong with the text of a licence, or nothing.
func refuse(text []byte) string {
	found := licensecheck.Scan(text)
	if len(found.Match) == 0 || found.Percent < known {
		return fmt.Sprintf("%.0f %% of it is text of licences that are known; read it", found.Percent)
	}
	for _, match := range found.Match {
		if !slices.Contains(allowed, match.ID) {
			return fmt.Sprintf("%s is none of %s", match.ID, strings.Join(allowed, ", "))
		}
	}
	return ""
}
