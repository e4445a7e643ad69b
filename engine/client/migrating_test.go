package client_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestMigrating: each row of MIGRATING.md names an example of this package, or says why there is none.
func TestMigrating(t *testing.T) {
	page, err := os.ReadFile("MIGRATING.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	examples := make(map[string]bool) // whether a row names it
	for _, m := range regexp.MustCompile(`(?m)^func (Example\w*)\(`).FindAllStringSubmatch(string(source), -1) {
		examples[m[1]] = false
	}
	for i, line := range strings.Split(string(page), "\n") {
		if !strings.HasPrefix(line, "| `") && !strings.Contains(line, "| Example") && !strings.Contains(line, "| why not") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), " | ")
		last := strings.TrimSpace(cells[len(cells)-1])
		if _, ok := examples[last]; ok {
			examples[last] = true
		} else if len(cells) != 3 || !strings.HasPrefix(last, "why not: ") {
			t.Errorf("MIGRATING.md:%d: %q is no example and no reason", i+1, last)
		}
	}
	for name, named := range examples {
		if !named {
			t.Errorf("no row names %s", name)
		}
	}
}
