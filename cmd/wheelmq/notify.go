package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// notify tells the service manager, if there is one (sd_notify(3)), how the
// broker stands; go-systemd is systemd's own protocol in Go, by CoreOS.
func notify(state string, log *slog.Logger) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("the service manager is not told", "state", state, "error", err)
	}
}

// reloading is the state that begins a reload (Type=notify-reload).
func reloading() string {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // cannot fail
	return fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000)
}

// watchdog tells the service manager that the broker lives, twice in the time
// that WatchdogSec= gives it, as long as all loops take their turns.
func watchdog(ctx context.Context, ping func(context.Context) error, log *slog.Logger) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the watchdog of the service manager", "error", err)
	}
	if err != nil || limit == 0 {
		return
	}
	ticker := time.NewTicker(limit / 2)
	defer ticker.Stop()
	for {
		within, cancel := context.WithTimeout(ctx, limit/2)
		if err := ping(within); err == nil {
			notify(daemon.SdNotifyWatchdog, log)
		} else if ctx.Err() == nil {
			log.Error("an event loop does not answer", "within", limit/2)
		}
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
