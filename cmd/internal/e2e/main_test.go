package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience bounds every single wait: far above what a loaded machine needs, far below the time limit of go test.
const patience = 60 * time.Second

var (
	wheelmqPath   string                            // the broker under test; set before the tests run
	foreignBroker = os.Getenv("WHEELMQ_E2E_BROKER") // another broker instead; see doc.go
	mqttjsFolder  string                            // node_modules below it has MQTT.js
)

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	folder, err := os.MkdirTemp("", "wheelmq-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	os.Setenv("XDG_STATE_HOME", filepath.Join(folder, "state")) // where brokers keep things that are not told otherwise
	if err := prepare(folder); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %v\n", err)
		return 1
	}
	return m.Run()
}

// prepare finds the foreign clients and builds the broker into folder.
func prepare(folder string) error {
	if err := findClients(); err != nil {
		return err
	}
	wheelmqPath = filepath.Join(folder, "wheelmq")
	args := append([]string{"build", "-o", wheelmqPath}, strings.Fields(os.Getenv("WHEELMQ_E2E_BUILD"))...)
	build := exec.Command("go", append(args, "github.com/wheelmq/wheelmq/cmd/wheelmq")...)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the broker: %w\n%s", err, out)
	}
	return nil
}

// findClients reports everything that is missing at once.
func findClients() error {
	var missing []error
	for _, program := range []string{"mosquitto_pub", "mosquitto_sub", "stdbuf", "node"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, err)
		}
	}
	mqttjsFolder = os.Getenv("WHEELMQ_E2E_MQTTJS")
	if mqttjsFolder == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		mqttjsFolder = filepath.Join(cache, "wheelmq", "mqttjs")
	}
	if _, err := os.Stat(filepath.Join(mqttjsFolder, "node_modules", "mqtt")); err != nil {
		missing = append(missing, err)
	}
	if len(missing) > 0 {
		return fmt.Errorf("foreign clients are missing; \"make clients\" installs them:\n%w", errors.Join(missing...))
	}
	return nil
}
