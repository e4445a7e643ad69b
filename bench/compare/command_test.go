package compare

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCommand(t *testing.T) {
	f := func(status int, stdout, stderr string, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		if got := command(t.Context(), args, "", &out, &errs); got != status {
			t.Errorf("%q: status %d, want %d", args, got, status)
		}
		if !strings.Contains(out.String(), stdout) || !strings.Contains(errs.String(), stderr) {
			t.Errorf("%q printed %q and %q", args, out.String(), errs.String())
		}
	}
	f(0, "pairs100-qos0-w64", "", "-list")
	f(2, "", "not defined", "-wrong")
	f(2, "", "flags only", "word")
	f(2, "", "flags only", "-repeats", "0")
	f(1, "", `no scenario "x"`, "-scenario", "cycles,x")
	f(1, "", "neither", "-builtin", "emqx")
	f(1, "", "no broker", "-builtin", "")
	f(1, "", "number of loops", "-builtin", "wheelmq", "-wheelmq", "true", "-loops", "1,0")
	file := func(text string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "brokers.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	refused := func(want, text string) {
		t.Helper()
		f(1, "", want, "-builtin", "", "-brokers", file(text))
	}
	refused("no [[broker]]", "")
	refused("expected", "[[broker")
	refused("broker.colour is not known", "[[broker]]\ncolour = 'red'")
	refused(`name "a b"`, "[[broker]]\nname = 'a b'")
	refused("x: no command", "[[broker]]\nname = 'x'")
	refused("neither {port} nor {address}", "[[broker]]\nname = 'x'\ncommand = ['run', 'it']")
	refused("x, tls: neither", "[[broker]]\nname = 'x'\ncommand = ['x', '{port}']\n[broker.tls]\ncommand = ['x']")
	refused("two brokers are called x", strings.Repeat("[[broker]]\nname = 'x'\ncommand = ['x', '{port}']\n", 2))
	fails := file("[[broker]]\nname = 'x'\ncommand = ['false', '{port}']")
	f(1, "!! cycles, x, repeat 1: FAILED: x: ended at once", "", "-smoke", "-scenario", "cycles", "-builtin", "", "-brokers", fails)
}

// The example is one that is understood.
func TestExample(t *testing.T) {
	list, err := further(t.Context(), "brokers.toml")
	if err != nil || len(list) != 4 {
		t.Fatalf("%+v, %v", list, err)
	}
	flashmq := list[1]
	tls, ok := flashmq.in(secure)
	if _, on := flashmq.in(durable); !ok || on || tls.Command[0] != "flashmq" || !strings.Contains(tls.Settings, "{cert}") {
		t.Errorf("%+v", flashmq)
	}
}

func TestScenarios(t *testing.T) {
	names := map[string]bool{}
	for _, s := range scenarios {
		if names[s.name] || strings.Contains(s.name, ",") {
			t.Errorf("name %q", s.name)
		}
		names[s.name] = true
		for _, c := range s.checks {
			if !strings.Contains(metricsText(s.columns), string(c.metric)) {
				t.Errorf("%s checks %s, which is not in its table", s.name, c.metric)
			}
		}
	}
	list, err := chosen("cycles,fanin-100-1")
	if err != nil || len(list) != 2 || list[0].name != "cycles" {
		t.Errorf("%v, %v", list, err)
	}
}

func metricsText(metrics []metric) string {
	var b strings.Builder
	for _, m := range metrics {
		b.WriteString(string(m) + " ")
	}
	return b.String()
}

func TestReport(t *testing.T) {
	p := plan{
		scenarios:  []scenario{{name: "one", mode: plain, about: "a scenario", columns: []metric{cpu, rate}, reference: 14, checks: []check{{cpu, atMostRatio, 0.5}}}},
		candidates: []candidate{{Name: "ref"}, {Name: "own", targets: true}},
		repeats:    2, timing: timing{Duration: time.Second},
	}
	runs := runsOf([2]float64{10, 1}, [2]float64{10, 3})
	for i := range runs {
		runs[i].Scenario = "one"
	}
	f := func(smoke bool, first string, contains ...string) {
		t.Helper()
		var out bytes.Buffer
		newReport(p, runs, smoke).print(&out)
		for _, text := range contains {
			if !strings.Contains(out.String(), text) {
				t.Errorf("no %q in:\n%s", text, out.String())
			}
		}
		if !strings.HasPrefix(out.String(), first) {
			t.Errorf("does not begin with %q:\n%s", first, out.String())
		}
	}
	f(false, "", "own     2.00 (1.00 to 3.00) x0.2", "cpu_us at most 0.5 of the reference's: 0.2 (0.1 to 0.3), met", "quiet machine: 14.00")
	f(true, "", "targets are not judged")
	runs[3].Duplicate = 7
	f(false, "!! one, own, repeat 2: 3.00 cpu_us, LOST 0, DUPLICATE 7, LATE 0", "0.2 (0.1 to 0.3), MISSED")

	path := filepath.Join(t.TempDir(), "figures.json")
	if err := newReport(p, runs, false).write(path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(t.TempDir(), "page.html")
	inPage := func(contains ...string) {
		t.Helper()
		var out bytes.Buffer
		if status := command(t.Context(), []string{"-table", path, "-report", page}, "", &out, &out); status != 0 {
			t.Fatalf("status %d: %s", status, out.String())
		}
		html, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range contains {
			if !strings.Contains(string(html), text) {
				t.Errorf("no %q in the page", text)
			}
		}
	}
	inPage("own against ref", "One run failed", "DUPLICATE 7", `<small class="fast">× 0.2</small>`, "a scenario")
	var back report
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if s := back.Summaries[0]; s.Runs[3].Duplicate != 7 || s.Rows[1].Ratios[cpu].Median != 0.2 || s.Verdicts[0].Met {
		t.Errorf("%s", b)
	}
}
