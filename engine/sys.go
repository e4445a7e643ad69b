package engine

import (
	"fmt"
	"math"
	"runtime"
	"strconv"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/clock"
	"github.com/wheelmq/wheelmq/engine/internal/metrics"
)

// isSys reports whether a topic name or filter is in the broker's own tree.
func isSys[S ~string | ~[]byte](name S) bool {
	return len(name) >= len("$SYS") && string(name[:len("$SYS")]) == "$SYS" &&
		(len(name) == len("$SYS") || name[len("$SYS")] == '/')
}

// sysState is what loop 0 keeps for $SYS/broker, under Mosquitto's names.
type sysState struct {
	next     clock.Time        // of the next publication
	last     clock.Time        // of the last load sample
	loads    [numLoads]average // per minute
	previous [numLoads]float64
	maximum  int64 // most clients connected at once
	heapMax  uint64
	said     map[string]string // last value per topic: what did not change is not published again
}

// average is a figure per minute over 1, 5 and 15 minutes.
type average [3]float64

var averageNames = [3]string{"1min", "5min", "15min"}

const (
	loadMessagesReceived = iota
	loadMessagesSent
	loadPublishDropped
	loadPublishReceived
	loadPublishSent
	loadBytesReceived
	loadBytesSent
	loadSockets
	loadConnections
	numLoads
)

var loadNames = [numLoads]string{"messages/received", "messages/sent", "publish/dropped", "publish/received",
	"publish/sent", "bytes/received", "bytes/sent", "sockets", "connections"}

// sysTick publishes $SYS/broker when its interval has passed.
func (l *loop) sysTick() {
	s := &l.sys
	every := l.b.options().SysInterval
	if every < 0 {
		return
	}
	sum := l.b.stats()
	s.maximum = max(s.maximum, sum.Connected)
	if l.now < s.next {
		return
	}
	if s.said == nil {
		s.said = make(map[string]string)
		s.last = l.now
		l.say("version", "wheelmq "+l.b.options().Version)
	}
	s.next = l.start.Add(l.now.Sub(l.start)/every*every + every) // a late turn does not move those after it
	l.sayLoads(&sum)
	l.sayFigures(&sum)
}

// say publishes one retained value, if it changed.
func (l *loop) say(name, value string) {
	if l.sys.said[name] == value {
		return
	}
	l.sys.said[name] = value
	p := publication{topic: []byte("$SYS/broker/" + name), payload: []byte(value), retain: true, sys: true}
	l.publish(&p)
	l.done(&p)
}

func sumOf(a *[16]uint64) (n uint64) {
	for _, v := range a {
		n += v
	}
	return n
}

func dropped(c *metrics.Counters) (n uint64) {
	for _, v := range c.Dropped {
		n += v
	}
	return n
}

func (l *loop) sayFigures(c *metrics.Counters) {
	s := &l.sys
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	s.heapMax = max(s.heapMax, mem.HeapAlloc)
	sessions := int64(l.b.directory.Len())
	b := &l.b.retained
	figures := [...]struct {
		name  string
		value int64
	}{
		{"clients/connected", c.Connected}, {"clients/active", c.Connected},
		{"clients/disconnected", max(0, sessions-c.Connected)}, {"clients/inactive", max(0, sessions-c.Connected)},
		{"clients/expired", int64(c.SessionsExpired)}, {"clients/maximum", s.maximum}, {"clients/total", sessions},
		{"bytes/received", int64(c.BytesReceived)}, {"bytes/sent", int64(c.BytesSent)},
		{"messages/received", int64(sumOf(&c.PacketsReceived))}, {"messages/sent", int64(sumOf(&c.PacketsSent))},
		{"messages/stored", b.messages() + c.QueuedMessages},
		{"publish/messages/received", int64(c.PacketsReceived[codec.PUBLISH])},
		{"publish/messages/sent", int64(c.PacketsSent[codec.PUBLISH])},
		{"publish/messages/dropped", int64(dropped(c))},
		{"publish/bytes/received", int64(c.PublishBytesReceived)}, {"publish/bytes/sent", int64(c.PublishBytesSent)},
		{"store/messages/count", b.messages() + c.QueuedMessages},
		{"store/messages/bytes", b.bytes.Load() + c.QueuedBytes},
		{"subscriptions/count", int64(l.b.router.Subscriptions())},
		{"shared_subscriptions/count", int64(l.b.router.SharedSubscriptions())},
		{"retained messages/count", int64(b.index.Len())},
		{"heap/current", int64(mem.HeapAlloc)}, {"heap/maximum", int64(s.heapMax)},
		{"connections/socket/count", l.b.open.Load()},
		{"wheelmq/refused", int64(c.Refused)},
		{"wheelmq/loop_delay_microseconds", int64(l.b.lateness() / time.Microsecond)},
	}
	l.say("uptime", fmt.Sprintf("%d seconds", int64(l.now.Sub(l.start)/time.Second)))
	for i := range figures {
		l.say(figures[i].name, strconv.FormatInt(figures[i].value, 10))
	}
	for t := codec.CONNECT; t <= codec.AUTH; t++ {
		l.say("mqtt/"+packetNames[t]+"/received", strconv.FormatUint(c.PacketsReceived[t], 10))
		l.say("mqtt/"+packetNames[t]+"/sent", strconv.FormatUint(c.PacketsSent[t], 10))
		lost := uint64(0)
		if t == codec.PUBLISH { // nothing else is ever dropped
			lost = dropped(c)
		}
		l.say("mqtt/"+packetNames[t]+"/dropped", strconv.FormatUint(lost, 10))
	}
	for d := range hook.NumDropReasons {
		l.say("wheelmq/dropped/"+d.String(), strconv.FormatUint(c.Dropped[d], 10))
	}
	for i := range metrics.NumLimits {
		l.say("wheelmq/limited/"+i.String(), strconv.FormatUint(c.Limited[i], 10))
	}
}

var packetNames = [16]string{"", "connect", "connack", "publish", "puback", "pubrec", "pubrel", "pubcomp",
	"subscribe", "suback", "unsubscribe", "unsuback", "pingreq", "pingresp", "disconnect", "auth"}

// sayLoads publishes the moving averages per minute.
func (l *loop) sayLoads(c *metrics.Counters) {
	s := &l.sys
	current := [numLoads]float64{
		float64(sumOf(&c.PacketsReceived)), float64(sumOf(&c.PacketsSent)), float64(dropped(c)),
		float64(c.PacketsReceived[codec.PUBLISH]), float64(c.PacketsSent[codec.PUBLISH]),
		float64(c.BytesReceived), float64(c.BytesSent), float64(c.SocketsOpened), float64(c.Connects),
	}
	minutes := l.now.Sub(s.last).Minutes()
	if minutes <= 0 {
		s.previous = current
		return
	}
	s.last = l.now
	for i := range current {
		rate := (current[i] - s.previous[i]) / minutes
		for j, window := range [3]float64{1, 5, 15} {
			a := &s.loads[i][j]
			*a += (rate - *a) * (1 - math.Exp(-minutes/window))
			l.say("load/"+loadNames[i]+"/"+averageNames[j], strconv.FormatFloat(*a, 'f', 2, 64))
		}
	}
	s.previous = current
}
