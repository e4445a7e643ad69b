package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/wheelmq/wheelmq/engine/hook"
)

// A connectionLog writes a line for each connection that begins, is refused or
// ends. It is a hook.EventHandler: off the loops, with the engine's bound on
// what may wait for it.
type connectionLog struct{ log *slog.Logger }

func (*connectionLog) EventKinds() hook.EventKind {
	return hook.EventConnected | hook.EventConnectionRefused | hook.EventDisconnected
}

func (l *connectionLog) HandleEvent(_ context.Context, e hook.Event) {
	c := &e.Client
	who := []any{"client", c.ClientID, "peer", c.RemoteAddr, "listener", c.Listener}
	if c.UserName != "" {
		who = append(who, "user", c.UserName)
	}
	switch e.Kind {
	case hook.EventConnected:
		l.log.Info("connected", append(who, "version", c.Version, "keepalive", e.Connected.KeepAlive, "session_present", e.Connected.SessionPresent)...)
	case hook.EventConnectionRefused:
		l.log.Info("refused", append(who, "code", e.Code, "why", e.Reason)...)
	case hook.EventDisconnected:
		d := &e.Disconnected
		if d.Code != 0 {
			who = append(who, "code", d.Code)
		}
		if d.Reason != "" {
			who = append(who, "why", d.Reason)
		}
		l.log.Info("disconnected", append(who, "by", d.By, "after", roundDuration(d.Connected))...)
	}
}

// tellDropped says in the log when lines of connections were left out, until ctx
// is done; dropped is how many there were in all.
func tellDropped(ctx context.Context, every time.Duration, dropped func() uint64, log *slog.Logger) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for told := uint64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if n := dropped(); n > told {
			log.Warn("lines of connections were left out: there were more than could be written", "lines", n-told)
			told = n
		}
	}
}
