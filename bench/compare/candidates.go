package compare

import (
	"context"
	"fmt"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	mosquittoName = "mosquitto"
	wheelmqName   = "wheelmq"
)

// mosquittoSettings raises every limit a workload could reach.
const mosquittoSettings = `listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_queued_messages 0
max_inflight_messages 0
persistence false
log_type none
user %s
`

// mosquitto is the reference. path "": looked for.
func mosquitto(ctx context.Context, path string) (candidate, error) {
	if path == "" {
		for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"} {
			if found, err := exec.LookPath(name); err == nil {
				path = found
				break
			}
		}
	}
	if path == "" {
		return candidate{}, fmt.Errorf("mosquitto not found: apt-get install mosquitto, or -mosquitto PATH")
	}
	// Mosquitto gives up root for another user unless it is told not to; its memory is read as us.
	me, err := user.Current()
	if err != nil {
		return candidate{}, err
	}
	return candidate{
		Name:     mosquittoName,
		Version:  versionOf(ctx, path, "-h"),
		Command:  []string{path, "-c", "{dir}/broker.conf"},
		Settings: fmt.Sprintf(mosquittoSettings, me.Username),
	}, nil
}

// wheelmq is one candidate for each number of loops. command "": cmd/wheelmq is built into dir.
func wheelmq(ctx context.Context, command, loops, dir string) ([]candidate, error) {
	args := strings.Fields(command)
	if len(args) == 0 {
		binary := filepath.Join(dir, "wheelmq")
		build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/wheelmq/wheelmq/cmd/wheelmq")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building WheelMQ: %w\n%s", err, out)
		}
		args = []string{binary}
	}
	version := versionOf(ctx, args[0], "--version")
	var list []candidate
	for n := range strings.SplitSeq(loops, ",") {
		if i, err := strconv.Atoi(n); err != nil || i < 1 {
			return nil, fmt.Errorf("-loops: %q is not a number of loops", n)
		}
		list = append(list, candidate{
			Name:    wheelmqName + "/" + n,
			Version: version,
			Command: append(append([]string{}, args...), "--no-persistence", "--listen", "{address}", "--loops", n),
			targets: true,
		})
	}
	return list, nil
}

// further is a broker given as name=command.
func further(text string) (candidate, error) {
	name, command, ok := strings.Cut(text, "=")
	args := strings.Fields(command)
	if !ok || name == "" || len(args) == 0 {
		return candidate{}, fmt.Errorf("-broker %q: want name=command", text)
	}
	if !strings.Contains(command, "{port}") && !strings.Contains(command, "{address}") {
		return candidate{}, fmt.Errorf("-broker %q: the command must contain {port} or {address}", text)
	}
	return candidate{Name: name, Command: args}, nil
}

// versionOf is the first line that the command prints, or "unknown".
func versionOf(ctx context.Context, path, flag string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, path, flag).CombinedOutput() // Mosquitto's help ends with status 3
	first, _, _ := strings.Cut(string(out), "\n")
	if first = strings.TrimSpace(first); first != "" {
		return first
	}
	return "unknown"
}
