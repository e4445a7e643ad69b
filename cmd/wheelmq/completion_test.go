package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// TestCompletion: a shell is told the flags of all commands, of those too that
// parse them by themselves, and bash takes the script.
func TestCompletion(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(append([]string{"__complete"}, args...), &out, &errs); code != 0 || !strings.Contains(out.String(), want) {
			t.Errorf("%q: status %d, want %q in\n%s%s", args, code, want, &out, &errs)
		}
	}
	f("--topic\t", "pub", "--to")
	f("--stats\t", "sub", "--")
	f("--response-topic", "rr", "-")
	f("--listen", "--li")
	f("import", "store", "imp")
	for shell, check := range map[string]string{"bash": "bash", "zsh": "", "fish": ""} {
		var script, errs bytes.Buffer
		if code := run([]string{"completion", shell}, &script, &errs); code != 0 || script.Len() == 0 {
			t.Errorf("completion %s: status %d\n%s", shell, code, &errs)
		}
		if check == "" {
			continue
		}
		c := exec.Command(check, "-n")
		c.Stdin = &script
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%s does not read its script: %v\n%s", shell, err, out)
		}
	}
}
