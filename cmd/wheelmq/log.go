package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
)

// timeLayout is RFC 3339 with milliseconds; times are UTC.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// newLogger returns the logger for --log-level and --log-format, writing to w.
func newLogger(w io.Writer, level slog.Leveler, format logFormat) *slog.Logger {
	if format == formatJSON {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: jsonKeys}))
	}
	return slog.New(newTextHandler(w, level))
}

// jsonKeys renames slog's own keys to the stable ones that are documented: ts, level, event.
func jsonKeys(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		return slog.String("ts", a.Value.Time().UTC().Format(timeLayout))
	case slog.MessageKey:
		a.Key = "event"
	}
	return a
}

// A textHandler writes one line per record:
//
//	2026-11-23T04:30:00.123Z INFO connected client=sensor-7 peer=127.0.0.1:51230 keepalive=60
//
// The attributes are formatted and quoted by slog.TextHandler, so that nothing from a peer can break out of its line.
type textHandler struct {
	out   *textOutput  // shared with the handlers made by WithAttrs and WithGroup
	attrs slog.Handler // writes the attributes into out.line
}

// textOutput is the writer and the line being put together, both under mu.
type textOutput struct {
	mu   sync.Mutex
	w    io.Writer
	line bytes.Buffer
}

func newTextHandler(w io.Writer, level slog.Leveler) slog.Handler {
	out := &textOutput{w: w}
	attrs := slog.NewTextHandler(&out.line, &slog.HandlerOptions{Level: level, ReplaceAttr: withoutHead})
	return &textHandler{out: out, attrs: attrs}
}

// withoutHead drops the keys that textHandler writes itself.
func withoutHead(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return a
}

func (h *textHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.attrs.Enabled(ctx, level)
}

func (h *textHandler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	line := &h.out.line
	line.Reset()
	line.WriteString(r.Time.UTC().Format(timeLayout))
	line.WriteByte(' ')
	line.WriteString(r.Level.String())
	line.WriteByte(' ')
	line.WriteString(plainText(r.Message))
	line.WriteByte(' ')
	if err := h.attrs.Handle(ctx, r); err != nil { // ends the line
		return err
	}
	b := line.Bytes()
	if bytes.HasSuffix(b, []byte(" \n")) { // no attributes
		b = append(b[:len(b)-2], '\n')
	}
	_, err := h.out.w.Write(b)
	return err
}

// plainText returns s, quoted when it holds anything that is not printable.
func plainText(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

func (h *textHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &textHandler{out: h.out, attrs: h.attrs.WithAttrs(attrs)}
}

func (h *textHandler) WithGroup(name string) slog.Handler {
	return &textHandler{out: h.out, attrs: h.attrs.WithGroup(name)}
}

// roundDuration keeps durations in log lines readable.
func roundDuration(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
