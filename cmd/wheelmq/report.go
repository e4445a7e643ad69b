package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
)

// A startReport is what the broker says once it is open.
type startReport struct {
	version     string
	loops       int
	addresses   []openAddress
	files       uint64 // limit on open files
	connections int    // how many that allows
	kept        string // what outlives the process, and where
	note        string // what was expected and is not so; may be empty
}

type openAddress struct {
	addr      net.Addr
	anonymous bool
}

// announce tells people in a few lines, or the log when a program reads along.
func (r startReport) announce(stdout io.Writer, log *slog.Logger, format logFormat) {
	if format == formatText {
		_, _ = io.WriteString(stdout, r.text())
		return
	}
	for _, a := range r.addresses {
		log.Info("listening", "listener", a.addr.String(), "reach", a.reach(), "anonymous", a.anonymous)
	}
	if r.note != "" {
		log.Warn(r.note)
	}
	log.Info("started", "version", r.version, "keeps", r.kept, "loops", r.loops, "max_connections", r.connections, "open_files", r.files)
}

func (r startReport) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "WheelMQ %s (%s), %s\n", r.version, runtime.Version(), plural(r.loops, "event loop"))
	width := 0
	for _, a := range r.addresses {
		width = max(width, len(a.addr.String()))
	}
	local := true
	for _, a := range r.addresses {
		clients := "no client may connect without a password"
		if a.anonymous {
			clients = "anyone may connect, no password"
		}
		fmt.Fprintf(&b, "  open    %-*s  %s: %s\n", width, a.addr, a.reach(), clients)
		local = local && a.local()
	}
	if r.note != "" {
		fmt.Fprintf(&b, "  note    %s\n", r.note)
	}
	fmt.Fprintf(&b, "  keeps   %s\n", r.kept)
	fmt.Fprintf(&b, "  limit   %s (%d open files)\n", plural(r.connections, "connection"), r.files)
	if local {
		b.WriteString("  others  to let other machines in, without passwords: --listen :1883 --allow-anonymous\n")
	}
	return b.String()
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func (a openAddress) local() bool {
	ap, err := netip.ParseAddrPort(a.addr.String())
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

func (a openAddress) reach() string {
	if a.local() {
		return "this machine"
	}
	return "other machines too"
}
