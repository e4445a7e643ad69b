package transport

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// mute makes a socket that is about to listen take no connection: the kernel
// drops every segment for it, and who wants to connect asks again, after a
// second. A connection that it took would be reset when it closes, as the port
// is held only until gnet listens.
func mute(_, _ string, c syscall.RawConn) error {
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K} // K 0: keep no byte
	var failed error
	if err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
	}); err != nil {
		return err
	}
	return failed
}
