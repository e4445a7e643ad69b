package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/wheelmq/wheelmq"

// A goPackage is what go list tells about one package.
type goPackage struct {
	ImportPath   string
	Dir          string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// name is the import path inside the module.
func (p goPackage) name() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

// listPackages returns every package of the module.
func listPackages(t *testing.T) []goPackage {
	t.Helper()
	list := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports,TestImports,XTestImports", "./...")
	list.Dir = root(t)
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var packages []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// root is the folder of go.mod.
func root(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(strings.TrimSpace(string(out)))
}

// inModule returns the name of an import of this module.
func inModule(path string) (name string, ok bool) { return strings.CutPrefix(path, module+"/") }

// everywhere reports whether p may import name without an arrow.
func everywhere(p, name string) bool {
	return name == "engine/internal/invariant" && strings.HasPrefix(p+"/", "engine/")
}

// checkArrows returns what packages break of table, and the arrows that none of them uses.
func checkArrows(packages []goPackage, table map[string][]string) (broken, unused []string) {
	used := make(map[string]bool)
	for _, p := range packages {
		allowed, listed := table[p.name()]
		if !listed {
			broken = append(broken, p.name()+" is not in the table")
		}
		for _, path := range p.Imports {
			name, ok := inModule(path)
			if !ok || everywhere(p.name(), name) {
				continue
			}
			if !slices.Contains(allowed, name) {
				broken = append(broken, p.name()+" may not import "+name)
			}
			used[p.name()+" -> "+name] = true
		}
	}
	for name, allowed := range table {
		for _, to := range allowed {
			if arrow := name + " -> " + to; !used[arrow] {
				unused = append(unused, arrow)
			}
		}
	}
	slices.Sort(unused)
	return broken, unused
}

// checkFences returns what packages break of table.
func checkFences(packages []goPackage, table map[string][]string) (broken []string) {
	for _, p := range packages {
		for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") || path == module {
				continue // the standard library
			}
			if _, ok := inModule(path); ok {
				continue
			}
			if !slices.Contains(table[dependency(path, table)], p.name()) {
				broken = append(broken, p.name()+" may not use "+path)
			}
		}
	}
	return broken
}

// dependency is the key of table that path belongs to, "" for none.
func dependency(path string, table map[string][]string) string {
	for key := range table {
		if path == key || strings.HasPrefix(path, key+"/") {
			return key
		}
	}
	return ""
}

func TestModule(t *testing.T) {
	packages := listPackages(t)
	if len(packages) == 0 {
		t.Fatal("go list names no package")
	}
	broken, unused := checkArrows(packages, arrows)
	for _, b := range slices.Concat(broken, checkFences(packages, fences)) {
		t.Error(b)
	}
	for _, arrow := range unused {
		t.Logf("note: no package uses %s", arrow)
	}
	for _, p := range packages {
		checkLengths(t, p)
	}
}

func checkLengths(t *testing.T, p goPackage) {
	t.Helper()
	for _, file := range p.GoFiles {
		text, err := os.ReadFile(filepath.Join(p.Dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(text, []byte("\n")); n > longestFile {
			t.Errorf("%s/%s has %d lines, at most %d are allowed: split it by idea", p.name(), file, n, longestFile)
		}
	}
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(topLevel, e.Name()) {
			t.Errorf("%s does not belong at the top level", e.Name())
		}
	}
}

// TestChecks makes sure that the checks can fail.
func TestChecks(t *testing.T) {
	table := map[string][]string{"a": {}, "b": {"a"}, "engine/c": {}, "old": {"a"}}
	fence := map[string][]string{"example.org/dep": {"b"}}
	f := func(want string, p goPackage) {
		t.Helper()
		p.ImportPath = module + "/" + p.ImportPath
		broken, _ := checkArrows([]goPackage{p}, table)
		if got := strings.Join(slices.Concat(broken, checkFences([]goPackage{p}, fence)), "; "); got != want {
			t.Errorf("%s: got %q, want %q", p.name(), got, want)
		}
	}
	f("", goPackage{ImportPath: "a", Imports: []string{"fmt", "encoding/json"}})
	f("", goPackage{ImportPath: "b", Imports: []string{module + "/a", "example.org/dep/part"}})
	f("a may not import b", goPackage{ImportPath: "a", Imports: []string{module + "/b"}})
	f("new is not in the table", goPackage{ImportPath: "new"})
	f("a may not use example.org/dep", goPackage{ImportPath: "a", TestImports: []string{"example.org/dep"}})
	f("b may not use example.org/dependency", goPackage{ImportPath: "b", XTestImports: []string{"example.org/dependency"}})
	f("", goPackage{ImportPath: "engine/c", Imports: []string{module + "/engine/internal/invariant"}})
	f("engine is not in the table", goPackage{ImportPath: "engine", Imports: []string{module + "/engine/internal/invariant"}})
	f("a may not import engine/internal/invariant", goPackage{ImportPath: "a", Imports: []string{module + "/engine/internal/invariant"}})

	_, unused := checkArrows([]goPackage{{ImportPath: module + "/b", Imports: []string{module + "/a"}}}, table)
	if !slices.Equal(unused, []string{"old -> a"}) {
		t.Errorf("unused arrows %v, want old -> a", unused)
	}
}
