package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCompare measures WheelMQ beside Mosquitto and a broker that a file names, mochi-mqtt as testdata/mochi makes it, in each
// mode, and writes the page.
func TestCompare(t *testing.T) {
	t.Parallel()
	if !onlyWheelmq(t) {
		return
	}
	folder := t.TempDir()
	mochi, brokers, page := filepath.Join(folder, "mochi-main"), filepath.Join(folder, "brokers.toml"), filepath.Join(folder, "page.html")
	if out, err := exec.Command("go", "build", "-C", "testdata/mochi", "-o", mochi).CombinedOutput(); err != nil {
		t.Fatalf("building mochi-mqtt: %v\n%s", err, out)
	}
	file := fmt.Sprintf(`[[broker]]
name = "mochi"
version = ["go", "version", "-m", %[1]q]
command = [%[1]q, "-tcp", "{address}"]
[broker.tls]
command = [%[1]q, "-tls", "{address}", "-cert", "{cert}", "-key", "{key}"]
[broker.ws]
command = [%[1]q, "-ws", "{address}"]
`, mochi)
	if err := os.WriteFile(brokers, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	status, said := wheelmq(t, "bench", "compare", "-smoke", "-mosquitto", mosquittoPath(), "-brokers", brokers, "-report", page,
		"-scenario", "connect10k,connect2k-tls,idle5000-ws,retained100k-durable")
	if status != 0 {
		t.Fatalf("ended with status %d\n%s", status, said)
	}
	html, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"wheelmq/1, mochi against mosquitto", "No message was lost", "TLS 1.3", "WebSocket", "persistence on", "--data-dir", "autosave_interval"} {
		if !strings.Contains(string(html), text) {
			t.Errorf("no %q in the page", text)
		}
	}
}
