package load

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// FindProcess looks for the process on this machine that listens on address, so that its CPU time
// and memory can be read. It returns 0 where there is none to be seen: the broker is on another
// machine, in another network namespace, or belongs to another user.
func FindProcess(address string) int {
	resolved, err := net.ResolveTCPAddr("tcp", address)
	if err != nil || !isLocal(resolved.AddrPort().Addr().Unmap()) {
		return 0
	}
	sockets := make(map[string]bool)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, _ := os.ReadFile(table) // without IPv6 there is no second table
		for _, inode := range listeners(text, resolved.Port) {
			sockets["socket:["+inode+"]"] = true
		}
	}
	if len(sockets) == 0 {
		return 0
	}
	return holder(sockets)
}

func isLocal(ip netip.Addr) bool {
	if ip.IsLoopback() || ip.IsUnspecified() {
		return true
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range own {
		if strings.HasPrefix(a.String(), ip.String()+"/") {
			return true
		}
	}
	return false
}

// listeners are the inodes of the sockets that listen on this port, from a table as /proc/net/tcp.
func listeners(table []byte, port int) []string {
	const listening = "0A"
	end := fmt.Sprintf(":%04X", port)
	var inodes []string
	for line := range bytes.Lines(table) {
		f := strings.Fields(string(line))
		if len(f) > 9 && strings.HasSuffix(f[1], end) && f[3] == listening {
			inodes = append(inodes, f[9])
		}
	}
	return inodes
}

// holder is the process that has one of these sockets open.
func holder(sockets map[string]bool) int {
	descriptors, _ := filepath.Glob("/proc/[0-9]*/fd/*") // fails for a malformed pattern only
	for _, path := range descriptors {
		target, err := os.Readlink(path)
		if err != nil || !sockets[target] {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(path, "/")[2]); err == nil {
			return pid
		}
	}
	return 0
}

// CommandOf is the command line of a process on this machine; nil where it is not to be seen.
func CommandOf(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
}
