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

// Settings of Mosquitto. Every limit that a workload could reach is raised.
const (
	mosquittoGlobal = `allow_anonymous true
set_tcp_nodelay true
max_queued_messages 0
max_inflight_messages 0
log_type none
user %s
`
	mosquittoPlain  = "listener {port} 127.0.0.1\n"
	mosquittoSecure = mosquittoPlain + "certfile {cert}\nkeyfile {key}\n"
	// It does not start with listeners for WebSocket alone.
	mosquittoWeb      = mosquittoPlain + "protocol websockets\nlistener {spare} 127.0.0.1\n"
	mosquittoBoth     = mosquittoSecure + "protocol websockets\nlistener {spare} 127.0.0.1\n"
	mosquittoLocal    = "listener 0 {socket}\n"
	mosquittoInMemory = "persistence false\n"
	// What was acknowledged in the last second is lost with the process; it cannot do better.
	mosquittoDurable = "persistence true\npersistence_location {dir}/\nautosave_interval 1\n"
)

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
	with := func(parts ...string) setup {
		return setup{
			Command:  []string{path, "-c", "{dir}/broker.conf"},
			Settings: strings.Join(parts, "") + fmt.Sprintf(mosquittoGlobal, me.Username),
		}
	}
	return candidate{
		Name:    mosquittoName,
		Version: versionOf(ctx, path, "-h"),
		setup:   with(mosquittoPlain, mosquittoInMemory),
		Modes: map[mode]setup{
			secure:  with(mosquittoSecure, mosquittoInMemory),
			web:     with(mosquittoWeb, mosquittoInMemory),
			both:    with(mosquittoBoth, mosquittoInMemory),
			local:   with(mosquittoLocal, mosquittoInMemory),
			durable: with(mosquittoPlain, mosquittoDurable),
		},
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
		with := func(listen string, more ...string) setup {
			return setup{Command: append(append(append([]string{}, args...), "--listen", listen, "--loops", n), more...)}
		}
		list = append(list, candidate{
			Name:    wheelmqName + "/" + n,
			Version: version,
			setup:   with("{address}", "--no-persistence"),
			Modes: map[mode]setup{
				secure:  with("tls://{address}", "--cert", "{cert}", "--key", "{key}", "--no-persistence"),
				web:     with("ws://{address}/mqtt", "--no-persistence"),
				both:    with("wss://{address}/mqtt", "--cert", "{cert}", "--key", "{key}", "--no-persistence"),
				local:   with("unix://{socket}", "--no-persistence"),
				durable: with("{address}", "--data-dir", "{dir}/data"),
			},
			targets: true,
		})
	}
	return list, nil
}

// versionOf is the first line that the command prints, or "unknown".
func versionOf(ctx context.Context, path string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, path, args...).CombinedOutput() // Mosquitto's help ends with status 3
	first, _, _ := strings.Cut(string(out), "\n")
	if first = strings.TrimSpace(first); first != "" {
		return first
	}
	return "unknown"
}
