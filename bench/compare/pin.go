package compare

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// A pinning parts the cores between broker and generator. The zero value pins nobody.
type pinning struct {
	broker, generator []int
}

// part gives the generator its cores where there are enough: its driver one, and from four on its sampler, collector and
// whoever else another one. With two, a broker with two loops would lose one of them.
func part(cores []int) pinning {
	n := len(cores)
	switch {
	case n <= 2:
		return pinning{}
	case n == 3:
		return pinning{cores[:2], cores[2:]}
	}
	return pinning{cores[:n-2], cores[n-2:]}
}

func (p pinning) String() string {
	if len(p.broker) == 0 {
		return "broker and generator share all cores: with two or less nobody is pinned"
	}
	return fmt.Sprintf("the broker is pinned to cores %v, the generator to %v", p.broker, p.generator)
}

// usableCores are those that this process may run on.
func usableCores() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("cores: %w", err)
	}
	var cores []int
	for i := range 64 * len(set) {
		if set.IsSet(i) {
			cores = append(cores, i)
		}
	}
	return cores, nil
}

func setOf(cores []int) *unix.CPUSet {
	set := &unix.CPUSet{}
	for _, core := range cores {
		set.Set(core)
	}
	return set
}

// start starts a broker on its cores: a child has the affinity of the thread that made it.
func (p pinning) start(command *exec.Cmd) error {
	if len(p.broker) == 0 {
		return command.Start()
	}
	// The thread is not given back, so that no other goroutine gets one with the broker's cores.
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.SchedSetaffinity(0, setOf(p.broker))
		if err == nil {
			err = command.Start()
		}
		failed <- err
	}()
	return <-failed
}

// apply puts all threads of this process onto the generator's cores; those to come inherit them.
func (p pinning) apply() error {
	if len(p.generator) == 0 {
		return nil
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, setOf(p.generator)); err != nil && err != unix.ESRCH {
			return fmt.Errorf("pinning the generator: %w", err)
		}
	}
	return nil
}
