//go:build !linux

package transport

import "syscall"

// mute does nothing: ports are not held here (see share).
func mute(_, _ string, _ syscall.RawConn) error { return nil }
