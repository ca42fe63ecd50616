// Package version says which build this is.
package version

import "runtime/debug"

// version is set by the linker in release builds (-X).
var version = ""

// String returns the release, or the commit that was built, or "devel".
func String() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}
