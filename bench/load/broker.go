package load

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// A Broker says where the broker under test listens and how to come in.
type Broker struct {
	Address  string       // host:port
	PID      int          // process on this machine whose CPU time and memory are read; 0: neither is known
	Version  Version      // zero: MQTT 3.1.1
	Username string       // "": none
	Password string       // sent with a Username only
	Sources  []netip.Addr // addresses to connect from, in turns; none: 127.0.0.1 to 127.0.0.250 toward loopback, else the system's choice
}

// A meter is one reading of the clocks that a measured window is taken between.
type meter struct {
	at        time.Time
	broker    time.Duration // CPU time of the broker's process, ended threads included
	generator time.Duration // CPU time of this process
	machine   time.Duration // CPU time of all processes, interrupts and steal
}

// Usage is what a measured window cost. What belongs to the broker is 0 where its process is not known.
type Usage struct {
	Elapsed       time.Duration `json:"elapsed_ns"`
	BrokerCPU     time.Duration `json:"broker_cpu_ns"`
	GeneratorCPU  time.Duration `json:"generator_cpu_ns"`
	OtherCPU      time.Duration `json:"other_cpu_ns"` // everything else on the machine; 10 ms resolution
	BrokerRSS     int64         `json:"broker_rss_bytes"`
	GeneratorFull bool          `json:"generator_full"` // the generator used over 90 % of a core: it may be the bottleneck
}

// generatorFullShare is what the generator may use of one core before a run is marked.
const generatorFullShare = 0.9

// Cores is a CPU time of the window as a number of cores.
func (u Usage) Cores(cpu time.Duration) float64 {
	if u.Elapsed <= 0 {
		return 0
	}
	return float64(cpu) / float64(u.Elapsed)
}

func readMeter(pid int) (meter, error) {
	var m meter
	var err error
	if pid > 0 {
		if m.broker, err = processCPU(pid); err != nil {
			return m, err
		}
	}
	if m.generator, err = cpuClock(unix.CLOCK_PROCESS_CPUTIME_ID); err != nil {
		return m, err
	}
	if m.machine, err = machineCPU(); err != nil {
		return m, err
	}
	m.at = time.Now()
	return m, nil
}

// usageSince reads the clocks again and the broker's memory.
func usageSince(m meter, pid int) (Usage, error) {
	end, err := readMeter(pid)
	if err != nil {
		return Usage{}, err
	}
	u := Usage{
		Elapsed:      end.at.Sub(m.at),
		BrokerCPU:    end.broker - m.broker,
		GeneratorCPU: end.generator - m.generator,
	}
	u.OtherCPU = max(0, end.machine-m.machine-u.BrokerCPU-u.GeneratorCPU)
	u.GeneratorFull = u.Cores(u.GeneratorCPU) > generatorFullShare
	if pid > 0 {
		u.BrokerRSS, err = residentBytes(pid)
	}
	return u, err
}
