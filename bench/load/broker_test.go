package load

import (
	"os"
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
