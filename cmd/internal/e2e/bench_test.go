package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBench runs the load generator against this broker and Mosquitto: each message arrives once and in order at both, and
// figures and page are written.
func TestBench(t *testing.T) {
	if onlyWheelmq(t) {
		return
	}
	brokers := map[string]*broker{
		"wheelmq":   startBroker(t),
		"mosquitto": startMosquitto(t, "max_queued_messages 0", "max_inflight_messages 20"),
	}
	scenarios := map[string][]string{
		"pairs-rate": {"--mqtt=5", "--qos=2", "--rate=2000", "--publishers=10", "--subscribers=10", "--warmup=100ms", "--duration=500ms"},
		"fan-out":    {"--qos=1", "--subscribers=50", "--window=4", "--warmup=100ms", "--duration=300ms"},
		"retained":   {"--messages=1000"},
		"replay":     {"--sessions=20", "--queued=50"},
		"connect":    {"--connections=300"},
	}
	for name, b := range brokers {
		for scenario, flags := range scenarios {
			folder := t.TempDir()
			figures, page := filepath.Join(folder, "figures.json"), filepath.Join(folder, "page.html")
			args := append([]string{"bench", scenario, "--quiet", "--broker", b.address, "--json", figures, "--report", page}, flags...)
			if status, said := wheelmq(t, args...); status != 0 {
				t.Errorf("%s, %s: ended with status %d\n%s", name, scenario, status, said)
				continue
			}
			var run struct {
				Scenario string
				Result   struct {
					Done, Lost, Duplicate, Late, Failed uint64
				}
			}
			text, err := os.ReadFile(figures)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, &run); err != nil {
				t.Fatal(err)
			}
			if r := run.Result; run.Scenario != scenario || r.Done == 0 || r.Lost+r.Duplicate+r.Late+r.Failed != 0 {
				t.Errorf("%s, %s: %+v", name, scenario, run)
			}
			if html, err := os.ReadFile(page); err != nil || !strings.Contains(string(html), scenario) {
				t.Errorf("%s, %s: a page of %d bytes does not name the scenario (%v)", name, scenario, len(html), err)
			}
		}
	}
}
