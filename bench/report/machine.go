package report

import (
	"bytes"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// A Machine is where something was measured.
type Machine struct {
	Processor string `json:"processor"`
	Cores     int    `json:"cores"`
	Memory    int64  `json:"memory_bytes"`
	Kernel    string `json:"kernel"`
	Go        string `json:"go"`
}

// ThisMachine reads what is known; what is not is "unknown" or 0.
func ThisMachine() Machine {
	m := Machine{Processor: "unknown", Cores: runtime.NumCPU(), Kernel: "unknown", Go: runtime.Version()}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.Memory = int64(info.Totalram) * int64(info.Unit)
	}
	text, _ := os.ReadFile("/proc/cpuinfo") // without it the processor stays unknown
	for line := range bytes.Lines(text) {
		if key, value, ok := bytes.Cut(line, []byte(":")); ok && string(bytes.TrimSpace(key)) == "model name" {
			m.Processor = string(bytes.TrimSpace(value))
			break
		}
	}
	return m
}

func (m Machine) String() string {
	return fmt.Sprintf("%s, %d cores, %s, Linux %s", m.Processor, m.Cores, Bytes(float64(m.Memory)), m.Kernel)
}
