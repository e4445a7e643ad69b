package load

import (
	"net"
	"os"
	"slices"
	"testing"
	"time"
)

func TestParseMachineCPU(t *testing.T) {
	f := func(stat string, want time.Duration, ok bool) {
		t.Helper()
		got, err := parseMachineCPU([]byte(stat))
		if got != want || (err == nil) != ok {
			t.Errorf("%q: %v, %v", stat, got, err)
		}
	}
	f("cpu  100 20 30 9000 500 6 7 8 0 0\ncpu0 1 2", 1710*time.Millisecond, true)
	f("cpu  1 1 1 1 1 1 1 1", 60*time.Millisecond, true)
	f("cpu0 1 1 1 1 1 1 1 1", 0, false)
	f("cpu  1 1 1 1 x 1 1 1", 0, false)
	f("", 0, false)
}

func TestParseResident(t *testing.T) {
	f := func(rollup string, want int64, ok bool) {
		t.Helper()
		got, err := parseResident([]byte(rollup))
		if got != want || (err == nil) != ok {
			t.Errorf("%q: %d, %v", rollup, got, err)
		}
	}
	f("55d-7ffd ---p 00000000 00:00 0 [rollup]\nRss:     1234 kB\nPss: 1 kB\n", 1234<<10, true)
	f("Pss: 1 kB\n", 0, false)
	f("", 0, false)
}

// The clock of this process, read as another process's would be, follows what it burns.
func TestProcessCPU(t *testing.T) {
	before, err := processCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const burn = 20 * time.Millisecond
	for after := before; after-before < burn; {
		if after, err = processCPU(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	if own, err := readMeter(os.Getpid()); err != nil || own.generator-before < burn {
		t.Errorf("generator clock %v after %v and %v of work, %v", own.generator, before, burn, err)
	}
	if _, err := processCPU(1 << 28); err == nil {
		t.Error("no error for a process that does not exist")
	}
}

// The process that listens is found by its port.
func TestFindProcess(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if pid := FindProcess(l.Addr().String()); pid != os.Getpid() {
		t.Errorf("process %d, want %d", pid, os.Getpid())
	}
	l.Close()
	if pid := FindProcess(l.Addr().String()); pid != 0 {
		t.Errorf("process %d listens on a closed port", pid)
	}
	if pid := FindProcess("192.0.2.1:1883"); pid != 0 {
		t.Errorf("process %d for another machine's address", pid)
	}
}

func TestListeners(t *testing.T) {
	const table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 0100007F:075B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n" +
		"   1: 0100007F:075B 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n" +
		"   2: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0\n" +
		"   3: bad line\n"
	if got := listeners([]byte(table), 1883); !slices.Equal(got, []string{"4711"}) {
		t.Errorf("%q", got)
	}
}
