package compare

import (
	"bytes"
	"os"
	"testing"
)

// TestReadmeTable: the README's comparison is what the kept figures say.
func TestReadmeTable(t *testing.T) {
	r, err := readReport("../results/latest.json")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	want, err := replaceTable(readme, r.markdown())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(readme, want) {
		t.Error("the table in README.md is not the one of bench/results/latest.json: make compare-table")
	}
}

func TestReplaceTable(t *testing.T) {
	f := func(document, want string) {
		t.Helper()
		got, err := replaceTable([]byte(document), "new\n")
		if err != nil {
			got = []byte("error")
		}
		if string(got) != want {
			t.Errorf("%q became %q, want %q", document, got, want)
		}
	}
	f("a\n"+tableBegin+"old\n"+tableEnd+"b\n", "a\n"+tableBegin+"new\n"+tableEnd+"b\n")
	f("a\n", "error")
	f("a\n"+tableBegin, "error")
}
