package load

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// processCPU reads the CPU clock of another process: nanoseconds, user and system, all threads.
// The kernel's clock identifier for it is the complement of the process identifier and, in the
// low three bits, the kind of clock (2: scheduler time).
func processCPU(pid int) (time.Duration, error) {
	d, err := cpuClock(int32(^pid<<3 | 2))
	if err != nil {
		return 0, fmt.Errorf("load: CPU clock of process %d: %w", pid, err)
	}
	return d, nil
}

func cpuClock(id int32) (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

// machineCPU sums what /proc/stat counts as busy: all but idle and iowait.
func machineCPU() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("load: %w", err)
	}
	return parseMachineCPU(b)
}

func parseMachineCPU(stat []byte) (time.Duration, error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 9 || string(fields[0]) != "cpu" {
		return 0, fmt.Errorf("load: /proc/stat begins with %q", line)
	}
	var ticks int64
	for i, f := range fields[1:9] { // user nice system idle iowait irq softirq steal
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("load: /proc/stat: %w", err)
		}
		if i != 3 && i != 4 {
			ticks += n
		}
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every architecture Go supports
	return time.Duration(ticks) * tick, nil
}

// residentBytes reads the exact resident set. Of another user's process only the counters are
// readable, which are batched per CPU and may be some hundred KiB off.
func residentBytes(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EACCES) {
		return residentCounter(pid)
	}
	if err != nil {
		return 0, fmt.Errorf("load: %w", err)
	}
	return parseResident(b)
}

func parseResident(rollup []byte) (int64, error) {
	for line := range bytes.Lines(rollup) {
		fields := bytes.Fields(line)
		if len(fields) == 3 && string(fields[0]) == "Rss:" && string(fields[2]) == "kB" {
			kib, err := strconv.ParseInt(string(fields[1]), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("load: no Rss line in smaps_rollup")
}

// residentCounter reads the resident set as the kernel counts it: quick, not exact.
func residentCounter(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, fmt.Errorf("load: %w", err)
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0, fmt.Errorf("load: statm of process %d is %q", pid, b)
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err
}
