package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by the linker (make build); empty otherwise.
var version string

// versionNumber is the release or revision this binary was built from, "unknown" when nobody recorded it.
func versionNumber() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return pickVersion(version, info)
}

// pickVersion prefers what the linker was told, then the version of the module as go install saw it, then the revision
// that the go command stamped.
func pickVersion(linked string, info *debug.BuildInfo) string {
	if linked != "" {
		return linked
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	var revision, dirty string
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "-dirty"
			}
		}
	}
	if revision == "" {
		return "unknown"
	}
	return revision + dirty
}

// buildVersion is the line that --version prints.
func buildVersion() string {
	return fmt.Sprintf("wheelmq %s %s %s/%s", versionNumber(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
