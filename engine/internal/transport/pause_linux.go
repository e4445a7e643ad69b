package transport

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// pollerOf finds the epoll descriptor that watches fd, by what the kernel
// tells of each one of the process; -1 when it does not.
func pollerOf(fd int) int {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return -1
	}
	for _, e := range entries {
		if to, err := os.Readlink(dir + "/" + e.Name()); err != nil || to != "anon_inode:[eventpoll]" {
			continue
		}
		info, err := os.ReadFile("/proc/self/fdinfo/" + e.Name())
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(info)) {
			var watched, epoll int
			if n, _ := fmt.Sscanf(line, "tfd: %d", &watched); n == 1 && watched == fd {
				if n, _ := fmt.Sscanf(e.Name(), "%d", &epoll); n == 1 {
					return epoll
				}
			}
		}
	}
	return -1
}

// watch says whether the loop's poller tells of bytes to read from fd. What it
// tells of output stays as gnet wants it.
func watch(poller, fd int, read, output bool) {
	var events uint32
	if read {
		events |= unix.EPOLLIN | unix.EPOLLPRI
	}
	if output {
		events |= unix.EPOLLOUT
	}
	_ = unix.EpollCtl(poller, unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Fd: int32(fd), Events: events})
}
