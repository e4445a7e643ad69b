package main

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/wheelmq/wheelmq/engine"
)

// A running broker takes changes of its configuration over. One goroutine.
type running struct {
	flags    *brokerFlags
	resolver resolver
	settings *settings // in force
	broker   *engine.Broker
	users    *users
	lines    *connectionLog
	remove   func() // takes lines off the broker's hooks; nil while it is off
	level    *slog.LevelVar
	log      *slog.Logger
	most     int // connections that the limit on open files allows
	busy     func(bool)
	files    atomic.Pointer[[]string] // of TLS, for who watches them
}

// remember notes down the files of TLS.
func (r *running) remember() {
	files := tlsFiles(r.settings.options.Listeners)
	r.files.Store(&files)
}

// reload reads the configuration again with all the files that it names. What
// is wrong with them is logged, and nothing changes; what cannot change while
// the broker runs is named.
func (r *running) reload(ctx context.Context) {
	next, err := readSettings(r.flags, r.resolver)
	if err == nil {
		err = r.try(next)
	}
	var who *usersState
	if err == nil {
		who, err = readUsers(next.users, r.busy)
	}
	if err != nil {
		r.log.Error("the configuration stays as it was", "error", err)
		return
	}
	ok := true
	failed := func(what string, err error) {
		if err != nil {
			ok = false
			r.log.Error(what, "error", err)
		}
	}
	known := r.users.enhanced()
	failed("rights of clients that are connected", r.users.replace(ctx, r.broker, who))
	for _, m := range r.users.enhanced() {
		if !slices.Contains(known, m) {
			_, err := r.broker.AddHook(m)
			failed("authentication methods", err)
		}
	}
	failed("certificates stay as they were", r.broker.ReloadTLS())
	next.options.Listeners, err = r.listeners(next.options.Listeners)
	failed("listeners", err)
	if next.options.MaxConnections <= 0 || next.options.MaxConnections > r.most {
		next.options.MaxConnections = r.most
	}
	fixed, err := r.broker.Reconfigure(next.options)
	failed("limits stay as they were", err)
	for i, name := range fixed {
		if key := keyOf[name]; key != "" {
			fixed[i] = key
		}
	}
	r.level.Set(levelOf(next.Log.Level))
	failed("log of connections", r.logConnections(next.Log.Connections))
	for _, section := range []struct {
		name     string
		now, new any
	}{{"store", r.settings.Store, next.Store}, {"profiles", r.settings.Profiles, next.Profiles}, {"log.format", r.settings.Log.Format, next.Log.Format}} {
		if !reflect.DeepEqual(section.now, section.new) {
			fixed = append(fixed, section.name)
		}
	}
	next.Store, next.Profiles, next.Log.Format = r.settings.Store, r.settings.Profiles, r.settings.Log.Format
	if len(fixed) > 0 {
		r.log.Warn("some changes need a restart", "what", strings.Join(fixed, ", "))
	}
	r.settings = next
	r.remember()
	if ok {
		r.log.Info("reloaded", "listeners", len(next.options.Listeners))
	}
}

// keyOf names the engine's options that cannot change as the configuration does.
var keyOf = map[string]string{
	"Loops": "loops", "MaximumPacketSize": "limits.packet", "MaximumQoS": "limits.qos", "ReceiveMaximum": "limits.receive_maximum",
	"TopicAliasMaximum": "limits.topic_aliases_in", "TopicAliases": "limits.topic_aliases_out", "NoTopicAliases": "limits.topic_aliases_in",
	"Overflow": "limits.queue.overflow", "HookTimeout": "limits.decision_timeout", "HookWorkers": "limits.decision_workers",
	"HookBacklog": "limits.decision_backlog", "NoRetained": "features.retained", "NoWildcardSubscriptions": "features.wildcard_subscriptions",
	"NoSharedSubscriptions": "features.shared_subscriptions", "NoSubscriptionIdentifiers": "features.subscription_identifiers",
}

// try makes a broker that never starts: it reads certificates and checks what
// can be checked without opening anything.
func (r *running) try(next *settings) error {
	o := next.options
	o.Hooks, o.Store = nil, nil
	_, err := engine.New(o)
	return err
}

// logConnections switches the lines of connections on or off.
func (r *running) logConnections(on bool) (err error) {
	switch {
	case on && r.remove == nil:
		r.remove, err = r.broker.AddHook(r.lines)
	case !on && r.remove != nil:
		r.remove()
		r.remove = nil
	}
	return err
}

// listeners closes those that are no longer wanted, or wanted otherwise, and
// opens the new ones. Clients that came by one that closes stay. It returns
// those that are open then.
func (r *running) listeners(wanted []engine.Listener) (open []engine.Listener, err error) {
	now, want := byLabel(r.settings.options.Listeners), byLabel(wanted)
	var errs []error
	for label, l := range now {
		if w, ok := want[label]; ok && reflect.DeepEqual(l, w) {
			continue
		}
		errs = append(errs, r.broker.CloseListener(label))
		r.log.Info("listener closed", "listener", label)
	}
	for _, l := range wanted {
		label := labelOf(&l)
		before, had := now[label]
		if had && reflect.DeepEqual(l, before) {
			open = append(open, l)
			continue
		}
		addr, err := r.broker.OpenListener(l)
		if err == nil {
			open = append(open, l)
			r.log.Info("listening", "listener", label, "address", addr, "anonymous", l.Anonymous)
			continue
		}
		errs = append(errs, err)
		if !had {
			continue
		}
		if _, err := r.broker.OpenListener(before); err != nil { // as it was, rather than none
			errs = append(errs, err)
			continue
		}
		open = append(open, before)
	}
	return open, errors.Join(errs...)
}

func byLabel(listeners []engine.Listener) map[string]engine.Listener {
	m := make(map[string]engine.Listener, len(listeners))
	for _, l := range listeners {
		m[labelOf(&l)] = l
	}
	return m
}

// labelOf is the engine's name of a listener.
func labelOf(l *engine.Listener) string {
	if l.Name != "" {
		return l.Name
	}
	return l.Address
}
