package engine

import (
	"reflect"
	"slices"

	"github.com/wheelmq/wheelmq/engine/internal/session"
)

// changeable are the fields of Options that Reconfigure takes over. What a
// client is told in CONNACK is not among them: it counts for as long as the
// connection lasts.
var changeable = []string{
	"MaxConnections", "MaxSessions", "ConnectTimeout", "MaximumConnectSize", "MaxInflight", "KeepAliveMaximum",
	"SessionExpiryLimit", "EmptyClientID", "ResponseInfo", "CheckPayloadFormat", "MaxQueuedMessages", "MaxQueuedBytes",
	"QueueMemory", "MaxSubscriptions", "MaxTopicLevels", "SharedStrategy", "MaxRetainedMessages", "MaxRetainedBytes", "OutboundBytes",
	"MailboxBytes", "SysInterval", "MessageRate", "ByteRate", "RateDisconnect", "AddressConnections", "AddressConnectRate",
	"ClientConnectRate", "MaxFilters", "MaxTopicLength", "SendRate", "SendByteRate", "UserRates", "AddressRates", "LoopDelay", "UserConnections", "UserConnectRate",
}

// elsewhere are fields that have methods of their own, or are the program's.
var elsewhere = []string{"Listeners", "Hooks", "Logger", "Store", "Version", "HandshakesBusy", "ProfileLabels"}

// Reconfigure changes what the broker does to what o says, as far as it can
// while it runs: bounds, time limits and the like. What was there before and is
// over a new bound stays. fixed names the fields of o that differ from what is
// in force and stay as they are until the broker is made anew; Listeners, Hooks
// and ReloadTLS have methods of their own and are not looked at. An error says
// what is wrong with o: then nothing has changed. Any goroutine but a loop's.
func (b *Broker) Reconfigure(o Options) (fixed []string, err error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.WithDefaults()
	b.reloading.Lock()
	defer b.reloading.Unlock()
	now := *b.options()
	from, to := reflect.ValueOf(o), reflect.ValueOf(&now).Elem()
	for i := range from.NumField() {
		name := from.Type().Field(i).Name
		switch {
		case slices.Contains(elsewhere, name) || reflect.DeepEqual(from.Field(i).Interface(), to.Field(i).Interface()):
		case slices.Contains(changeable, name):
			to.Field(i).Set(from.Field(i))
		default:
			fixed = append(fixed, name)
		}
	}
	b.opts.Store(&now)
	b.mu.Lock()
	server := b.server
	b.mu.Unlock()
	if server != nil {
		server.SetMaxConnections(now.MaxConnections + connectionsBeyond)
	}
	old, limits := b.limits.Load(), now.sessionLimits()
	if *old == *limits {
		return fixed, nil
	}
	b.limits.Store(limits)
	for _, l := range b.loops {
		l.replaceLimits(old, limits, 0)
	}
	return fixed, nil
}

// replaceLimits gives the sessions from slot from on new limits, some a turn.
// Any goroutine.
func (l *loop) replaceLimits(old, now *session.Limits, from int) {
	l.post(func(l *loop) {
		end := min(from+inspectChunk, len(l.slots))
		for _, cl := range l.slots[min(from, end):end] {
			if cl != nil {
				cl.ReplaceLimits(old, now)
			}
		}
		if end < len(l.slots) {
			l.replaceLimits(old, now, end)
		}
	})
}
