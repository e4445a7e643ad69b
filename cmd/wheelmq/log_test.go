package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestTextLog(t *testing.T) {
	f := func(want string, write func(*slog.Logger)) {
		t.Helper()
		var b bytes.Buffer
		write(newLogger(&b, slog.LevelInfo, formatText))
		got := b.String()
		stamp, rest, _ := strings.Cut(got, " ")
		if want == "" {
			if got != "" {
				t.Errorf("logged %q, want nothing", got)
			}
			return
		}
		if _, err := time.Parse(timeLayout, stamp); err != nil || !strings.HasSuffix(stamp, "Z") {
			t.Errorf("the time %q is not RFC 3339 in UTC (%v)", stamp, err)
		}
		if rest != want+"\n" {
			t.Errorf("logged %q, want %q", rest, want+"\n")
		}
	}
	f("INFO connected client=a keepalive=60", func(l *slog.Logger) { l.Info("connected", "client", "a", "keepalive", 60) })
	f("INFO stopped", func(l *slog.Logger) { l.Info("stopped") })
	f("", func(l *slog.Logger) { l.Debug("hidden") })
	f("WARN full loop=1 queue=9", func(l *slog.Logger) { l.With("loop", 1).Warn("full", "queue", 9) })
	f("ERROR x g.client=b", func(l *slog.Logger) { l.WithGroup("g").Error("x", "client", "b") })
	f(`INFO x client="a b\nINFO forged"`, func(l *slog.Logger) { l.Info("x", "client", "a b\nINFO forged") })
	f(`INFO "x\ny"`, func(l *slog.Logger) { l.Info("x\ny") })
	f("INFO x client.msg=1", func(l *slog.Logger) { l.Info("x", slog.Group("client", "msg", 1)) })
}

func TestTextLogKeepsLinesWhole(t *testing.T) {
	var b bytes.Buffer
	log := newLogger(&b, slog.LevelInfo, formatText)
	const writers, lines = 4, 200
	done := make(chan struct{})
	for range writers {
		own := log.With("client", "c")
		go func() {
			for range lines {
				own.Info("connected", "keepalive", 60)
			}
			done <- struct{}{}
		}()
	}
	for range writers {
		<-done
	}
	got := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(got) != writers*lines {
		t.Fatalf("%d lines, want %d", len(got), writers*lines)
	}
	for _, line := range got {
		if _, rest, _ := strings.Cut(line, " "); rest != "INFO connected client=c keepalive=60" {
			t.Fatalf("mixed line %q", line)
		}
	}
}

func TestJSONLogKeys(t *testing.T) {
	var b bytes.Buffer
	newLogger(&b, slog.LevelInfo, formatJSON).Info("connected", "client_id", "a")
	var line map[string]any
	if err := json.Unmarshal(b.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	stamp, _ := line["ts"].(string)
	if _, err := time.Parse(timeLayout, stamp); err != nil {
		t.Error(err)
	}
	delete(line, "ts")
	if len(line) != 3 || line["level"] != "INFO" || line["event"] != "connected" || line["client_id"] != "a" {
		t.Errorf("unexpected keys or values: %v", line)
	}
}
