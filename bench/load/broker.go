package load

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A Broker says where the broker under test listens and which process it is.
type Broker struct {
	Address string // host:port
	PID     int    // process whose CPU time and memory are read; it must run on this machine
}

// A meter is one reading of the clocks that a measured window is taken between.
type meter struct {
	at        time.Time
	broker    time.Duration // CPU time of the broker's process, ended threads included
	generator time.Duration // CPU time of this process
	machine   time.Duration // CPU time of all processes, interrupts and steal
}

// Usage is what a measured window cost.
type Usage struct {
	Elapsed       time.Duration `json:"elapsed_ns"`
	BrokerCPU     time.Duration `json:"broker_cpu_ns"`
	GeneratorCPU  time.Duration `json:"generator_cpu_ns"`
	OtherCPU      time.Duration `json:"other_cpu_ns"` // everything else on the machine; 10 ms resolution
	BrokerRSS     int64         `json:"broker_rss_bytes"`
	GeneratorFull bool          `json:"generator_full"` // the generator used over 90 % of a core: it may be the bottleneck
}

// Bounds of what the generator may use of one core before a run is marked.
const generatorFullShare = 0.9

func readMeter(pid int) (meter, error) {
	broker, err := processCPU(pid)
	if err != nil {
		return meter{}, err
	}
	generator, err := cpuClock(unix.CLOCK_PROCESS_CPUTIME_ID)
	if err != nil {
		return meter{}, err
	}
	machine, err := machineCPU()
	if err != nil {
		return meter{}, err
	}
	return meter{at: time.Now(), broker: broker, generator: generator, machine: machine}, nil
}

// usageSince reads the clocks again and the broker's memory.
func usageSince(m meter, pid int) (Usage, error) {
	end, err := readMeter(pid)
	if err != nil {
		return Usage{}, err
	}
	rss, err := residentBytes(pid)
	if err != nil {
		return Usage{}, err
	}
	u := Usage{
		Elapsed:      end.at.Sub(m.at),
		BrokerCPU:    end.broker - m.broker,
		GeneratorCPU: end.generator - m.generator,
		BrokerRSS:    rss,
	}
	u.OtherCPU = max(0, end.machine-m.machine-u.BrokerCPU-u.GeneratorCPU)
	u.GeneratorFull = float64(u.GeneratorCPU) > generatorFullShare*float64(u.Elapsed)
	return u, nil
}

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

// residentBytes reads the exact resident set (the counters in status are batched per CPU).
func residentBytes(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
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
