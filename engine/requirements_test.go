package engine

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

const (
	requirementsFile  = "testdata/requirements.tsv"
	notApplicableFile = "testdata/not-applicable.tsv"
	conformanceFile   = "CONFORMANCE.md"
)

// A requirement is a row of testdata/requirements.tsv.
type requirement struct {
	id, versions, who, section, text string
	tests                            []string // that call covers with its id, sorted
	reason                           string   // why it does not apply; "" it does
}

// TestRequirements holds CONFORMANCE.md to the tests as they are: each
// requirement of the standard is either checked by a test or, with a reason,
// not applicable.
func TestRequirements(t *testing.T) {
	rows := readRequirements(t)
	byID := make(map[string]*requirement)
	for _, r := range rows {
		if byID[r.id] != nil {
			t.Errorf("%s: %s stands twice", requirementsFile, r.id)
		}
		byID[r.id] = r
	}
	readNotApplicable(t, byID)
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
		if err := os.WriteFile(conformanceFile, page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if old, err := os.ReadFile(conformanceFile); err != nil || !bytes.Equal(old, page) {
		t.Errorf("%s is out of date: go test ./engine -run TestRequirements -rewrite", conformanceFile)
	}
}

// readTable gives the lines of a tab separated file, each with the given number of columns.
func readTable(t *testing.T, name string, columns int) [][]string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for i, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		if line == "" {
			continue
		}
		row := strings.Split(line, "\t")
		if len(row) != columns {
			t.Fatalf("%s:%d: %d columns, want %d", name, i+1, len(row), columns)
		}
		rows = append(rows, row)
	}
	return rows
}

func readRequirements(t *testing.T) []*requirement {
	t.Helper()
	var rows []*requirement
	for _, c := range readTable(t, requirementsFile, 5)[1:] {
		rows = append(rows, &requirement{id: c[0], versions: c[1], who: c[2], section: c[3], text: c[4]})
	}
	return rows
}

func readNotApplicable(t *testing.T, byID map[string]*requirement) {
	t.Helper()
	for _, c := range readTable(t, notApplicableFile, 2) {
		switch r := byID[c[0]]; {
		case r == nil:
			t.Errorf("%s: %q is no requirement", notApplicableFile, c[0])
		case c[1] == "":
			t.Errorf("%s: %s without a reason", notApplicableFile, c[0])
		case r.reason != "":
			t.Errorf("%s: %s stands twice", notApplicableFile, c[0])
		default:
			r.reason = c[1]
		}
	}
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
			if f, ok := d.(*ast.FuncDecl); ok {
				readCoversIn(t, fset, f, byID)
			}
		}
	}
	for _, r := range byID {
		slices.Sort(r.tests)
		r.tests = slices.Compact(r.tests)
	}
}

func readCoversIn(t *testing.T, fset *token.FileSet, f *ast.FuncDecl, byID map[string]*requirement) {
	t.Helper()
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if id, ok := call.Fun.(*ast.Ident); !ok || id.Name != "covers" {
			return true
		}
		if f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Test") {
			t.Errorf("%v: covers outside a test function", fset.Position(call.Pos()))
			return true
		}
		for _, arg := range call.Args[1:] {
			lit, ok := arg.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				t.Errorf("%v: covers takes string literals", fset.Position(arg.Pos()))
				continue
			}
			id, err := strconv.Unquote(lit.Value)
			r := byID[id]
			if err != nil || r == nil {
				t.Errorf("%v: %s is no requirement", fset.Position(arg.Pos()), lit.Value)
				continue
			}
			r.tests = append(r.tests, f.Name.Name)
		}
		return true
	})
}

// conformancePage writes CONFORMANCE.md.
func conformancePage(rows []*requirement) []byte {
	var covered, apart, missing int
	for _, r := range rows {
		switch {
		case len(r.tests) > 0:
			covered++
		case r.reason != "":
			apart++
		default:
			missing++
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Conformance\n\n"+
		"What MQTT 5.0, 3.1.1 and 3.1 ask of a server, and the test that observes it on the wire. Generated:\n"+
		"`go test ./engine -run TestRequirements -rewrite`.\n\n"+
		"Identifiers: `MQTT-…` as numbered in MQTT 5.0, `311:MQTT-…` as numbered in 3.1.1, `U5-…` rules of 5.0 without a number,\n"+
		"`M31-…` where 3.1 differs, `B-…` expected of a good broker. Versions: `both` is 5.0 and 3.1.1.\n\n"+
		"| requirements | covered by tests | not applicable | not yet covered |\n| --- | --- | --- | --- |\n| %d | %d | %d | %d |\n",
		len(rows), covered, apart, missing)
	section(&b, rows, "Covered", "tests", func(r *requirement) string { return strings.Join(r.tests, ", ") })
	section(&b, rows, "Not applicable", "reason", func(r *requirement) string { return r.reason })
	section(&b, rows, "Not yet covered", "section", func(r *requirement) string {
		if len(r.tests) > 0 || r.reason != "" {
			return ""
		}
		return r.section
	})
	return b.Bytes()
}

// section writes the rows for which last is not empty; nothing if there are none.
func section(b *bytes.Buffer, rows []*requirement, title, column string, last func(*requirement) string) {
	head := fmt.Sprintf("\n## %s\n\n| id | versions | requirement | %s |\n| --- | --- | --- | --- |\n", title, column)
	cell := strings.NewReplacer("|", `\|`)
	for _, r := range rows {
		if s := last(r); s != "" {
			fmt.Fprintf(b, "%s| %s | %s | %s | %s |\n", head, r.id, r.versions, cell.Replace(r.text), cell.Replace(s))
			head = ""
		}
	}
}
