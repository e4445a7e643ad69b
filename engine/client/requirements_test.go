package client_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the generated files of the tests anew")

// missingAllowed is how many requirements may stand in CONFORMANCE.md as not yet covered.
const missingAllowed = 0

// A requirement is a row of testdata/requirements.tsv.
type requirement struct {
	id, versions, text string
	tests              []string // that call covers with its id, sorted
	reason             string   // why it does not apply; "": it does
}

// TestRequirements holds CONFORMANCE.md to the tests as they are, as the test of that name in package engine does for
// the broker.
func TestRequirements(t *testing.T) {
	byID := make(map[string]*requirement)
	var rows []*requirement
	for _, c := range readTable(t, "testdata/requirements.tsv", 5)[1:] {
		r := &requirement{id: c[0], versions: c[1], text: c[4]}
		if byID[r.id] != nil {
			t.Errorf("%s stands twice", r.id)
		}
		rows, byID[r.id] = append(rows, r), r
	}
	for _, c := range readTable(t, "testdata/not-applicable.tsv", 2) {
		if r := byID[c[0]]; r == nil || c[1] == "" || r.reason != "" {
			t.Errorf("not-applicable.tsv: %q is no requirement, stands twice or has no reason", c[0])
		} else {
			r.reason = c[1]
		}
	}
	readCovers(t, byID)
	missing := 0
	for _, r := range rows {
		switch {
		case len(r.tests) > 0 && r.reason != "":
			t.Errorf("%s is said not to apply, but %s covers it", r.id, r.tests[0])
		case len(r.tests) == 0 && r.reason == "":
			missing++
		}
	}
	if missing > missingAllowed {
		t.Errorf("%d requirements are neither covered nor said not to apply, allowed are %d", missing, missingAllowed)
	}
	page := conformancePage(rows)
	if *rewrite {
		if err := os.WriteFile("CONFORMANCE.md", page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if old, err := os.ReadFile("CONFORMANCE.md"); err != nil || !bytes.Equal(old, page) {
		t.Error("CONFORMANCE.md is out of date: go test ./engine/client -run TestRequirements -rewrite")
	}
}

// readTable gives the lines of a tab separated file, each with the given number of columns.
func readTable(t *testing.T, name string, columns int) (rows [][]string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		row := strings.Split(line, "\t")
		if len(row) != columns {
			t.Fatalf("%s:%d: %d columns, want %d", name, i+1, len(row), columns)
		}
		rows = append(rows, row)
	}
	return rows
}

// readCovers looks for calls of covers in the test functions of this package.
func readCovers(t *testing.T, byID map[string]*requirement) {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	for _, name := range files {
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name != "covers" {
				ast.Inspect(f, func(n ast.Node) bool {
					readCall(t, fset, f, n, byID)
					return true
				})
			}
		}
	}
	for _, r := range byID {
		slices.Sort(r.tests)
		r.tests = slices.Compact(r.tests)
	}
}

func readCall(t *testing.T, fset *token.FileSet, f *ast.FuncDecl, n ast.Node, byID map[string]*requirement) {
	t.Helper()
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return
	}
	if id, ok := call.Fun.(*ast.Ident); !ok || id.Name != "covers" {
		return
	}
	for _, arg := range call.Args[1:] {
		lit, ok := arg.(*ast.BasicLit)
		if !ok || !strings.HasPrefix(f.Name.Name, "Test") {
			t.Errorf("%v: covers takes string literals, in a test function", fset.Position(arg.Pos()))
			continue
		}
		id, err := strconv.Unquote(lit.Value)
		if r := byID[id]; err != nil || r == nil {
			t.Errorf("%v: %s is no requirement", fset.Position(arg.Pos()), lit.Value)
		} else {
			r.tests = append(r.tests, f.Name.Name)
		}
	}
}

// conformancePage writes CONFORMANCE.md.
func conformancePage(rows []*requirement) []byte {
	var covered, apart, missing []string
	cell := strings.NewReplacer("|", `\|`)
	for _, r := range rows {
		line := fmt.Sprintf("| %s | %s | %s |", r.id, r.versions, cell.Replace(r.text))
		switch {
		case len(r.tests) > 0:
			covered = append(covered, line+" "+strings.Join(r.tests, ", ")+" |")
		case r.reason != "":
			apart = append(apart, line+" "+cell.Replace(r.reason)+" |")
		default:
			missing = append(missing, line+" |")
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Conformance of the client library\n\n"+
		"What MQTT 5.0, 3.1.1 and 3.1 ask of a client, and the test that observes it. Generated:\n"+
		"`go test ./engine/client -run TestRequirements -rewrite`. Identifiers as in the broker's table.\n\n"+
		"| requirements | covered by tests | not applicable | not yet covered |\n| --- | --- | --- | --- |\n| %d | %d | %d | %d |\n",
		len(rows), len(covered), len(apart), len(missing))
	section(&b, "Covered", "| tests |", covered)
	section(&b, "Not applicable", "| reason |", apart)
	section(&b, "Not yet covered", "|", missing)
	return b.Bytes()
}

func section(b *bytes.Buffer, title, column string, lines []string) {
	if len(lines) > 0 {
		fmt.Fprintf(b, "\n## %s\n\n| id | versions | requirement %s\n|%s\n%s\n", title, column, strings.Repeat(" --- |", 2+strings.Count(column, "|")), strings.Join(lines, "\n"))
	}
}
