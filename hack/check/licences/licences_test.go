package licences

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	mit = `MIT License

Copyright (c) 2020 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the
Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the
Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A
PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN
ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
`
	gpl = `This program is free software: you can redistribute it and/or modify it under the terms of the GNU General Public License as published by
the Free Software Foundation, either version 3 of the License, or (at your option) any later version.
`
	own = "You may use this on Sundays, and on holidays of the town in which you live, if it does not rain there. " +
		"You may not use it to count sheep, or to sell it to those who do; and whoever changes it has to bake a cake for its author, who likes nuts."
)

// module unpacks a module whose packages a/b and c are built in.
func module(t *testing.T, files map[string]string) Module {
	t.Helper()
	m := Module{Path: "example.com/lib", Version: "v1.2.3", Dir: t.TempDir(), Folders: map[string]bool{}}
	for _, dir := range []string{"a/b", "c", "unused"} {
		if err := os.MkdirAll(filepath.Join(m.Dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.Folders[filepath.Join(m.Dir, "a/b")] = true
	m.Folders[filepath.Join(m.Dir, "c")] = true
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(m.Dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestCheck(t *testing.T) {
	tests := []struct {
		why   string
		files map[string]string
		want  string // words of the problem; none if there is none
	}{
		{"an allowed licence", map[string]string{"LICENSE": mit}, ""},
		{"by another spelling", map[string]string{"Licence.md": mit}, ""},
		{"what is not built in does not count", map[string]string{"LICENSE": mit, "unused/LICENSE": gpl}, ""},
		{"nor does code of that name", map[string]string{"LICENSE": mit, "license.go": "package lib"}, ""},

		{"none at all", map[string]string{"README": "It is free."}, "example.com/lib v1.2.3 has no file with a licence"},
		{"another licence", map[string]string{"LICENSE": gpl}, "LICENSE: GPL-3.0"},
		{"another licence behind an allowed one", map[string]string{"LICENSE": mit + gpl}, "LICENSE: GPL-3.0"},
		{"another licence of a package", map[string]string{"LICENSE": mit, "a/b/COPYING": gpl}, "a/b/COPYING: GPL-3.0"},
		{"and of the folder above a package", map[string]string{"LICENSE": mit, "a/LICENSE.txt": gpl}, "a/LICENSE.txt: GPL-3.0"},
		{"words that nobody knows", map[string]string{"LICENSE": own}, "LICENSE: 0 % of it is text of licences that are known; read it"},
		{"such words behind an allowed one", map[string]string{"LICENSE": mit + own + own}, "of licences that are known; read it"},
	}
	for _, tt := range tests {
		t.Run(tt.why, func(t *testing.T) {
			got, err := Check([]Module{module(t, tt.files)})
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("got %q, want nothing", got)
			case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)):
				t.Errorf("got %q, want one with %q", got, tt.want)
			}
		})
	}
}

func TestCheckOfNothing(t *testing.T) {
	if _, err := Check(nil); err == nil {
		t.Error("no modules are fine")
	}
}

// TestBuilt looks at this module's own command, whose libraries are few.
func TestBuilt(t *testing.T) {
	modules, err := Built("..", ".")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range modules {
		got = append(got, m.Path)
		if m.Version == "" || !m.Folders[m.Dir] {
			t.Errorf("of %s: %+v", m.Path, m)
		}
	}
	if want := []string{"github.com/google/licensecheck", "github.com/yuin/goldmark"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
