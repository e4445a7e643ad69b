package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bounds of a driver.
const (
	readBytes     = 256 << 10        // one read
	eventsPerTurn = 512              // epoll events taken at once
	openTimeout   = 60 * time.Second // for one more connection to come up
	longestWait   = 100 * time.Millisecond
	loopbacks     = 250    // source addresses 127.0.0.1 to 127.0.0.250
	portsOfSource = 20_000 // connections that one source address has ports for

	// sourceTurn is how many connections are made from one source address before the next one is taken: far below half of the
	// kernel's usual range of 28,232 ports, beyond which a connect tries hundreds before it finds a free one.
	sourceTurn = 5000
)

// HandshakesOpen is how many connections may be between connect and SUBACK at once where a
// workload does not say: below any broker's backlog.
const HandshakesOpen = 64

// A handler is the workload's side of a driver. Its methods run on the driver's goroutine.
type handler interface {
	// ready tells that the connection is accepted and subscribed.
	ready(c *conn) error
	// packet gets a packet of a ready connection; body is borrowed. now is the driver's clock
	// after the read that brought it.
	packet(c *conn, first byte, body []byte, now int64) error
	// lost tells that the connection failed or was closed, for the reason err. What it returns
	// ends the run; nil goes on.
	lost(c *conn, err error) error
}

// A driver runs all connections of a workload on one locked thread.
//
// Ownership: one goroutine makes, uses and closes it.
type driver struct {
	*recorder
	broker  Broker
	epoll   int
	handler handler
	base    time.Time // the driver's clock counts from here

	target    unix.Sockaddr
	family    int
	sources   []unix.Sockaddr // none: the system chooses
	first     int             // source to begin with: not where the ports of the run before still wait
	perSource int             // connections made from one source before the next one is taken
	dialed    int

	conns      []*conn
	handshakes int // connections between connect and SUBACK
	up         int // connections that are ready
	settled    int // handshakes that came to an end, good or bad

	keepAlive uint16 // seconds, in CONNECT
	pingAt    int64  // when the next PINGREQ is due
	pingSpan  int64  // between the PINGREQ of one connection and the next one's
	pingNext  int    // index of the connection it is due at
	timePings bool   // their latencies are recorded

	events [eventsPerTurn]unix.EpollEvent
	in     []byte // packets, and the kept beginning of one
	raw    []byte // what a read brought, of a connection with a wire
	frame  []byte // of WebSocket inside TLS
	spare  []byte // what wires write to; nil while lent
}

func newDriver(b Broker, h handler, watch func(Sample)) (*driver, error) {
	d := &driver{
		broker: b, handler: h, base: time.Now(), perSource: sourceTurn, in: make([]byte, readBytes),
		keepAlive: keepAliveSeconds, pingAt: int64(keepAliveSeconds * time.Second / 2),
	}
	if err := d.broker.prepareTLS(); err != nil {
		return nil, err
	}
	if err := d.setTarget(); err != nil {
		return nil, err
	}
	var err error
	if d.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("load: epoll_create1: %w", err)
	}
	d.recorder = startRecorder(b.PID, watch)
	runtime.LockOSThread()
	// Without this the kernel may end a wait 50 microseconds late, as long as a message every 50 is due.
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		d.close()
		return nil, fmt.Errorf("load: timer slack: %w", err)
	}
	return d, nil
}

func (d *driver) setTarget() error {
	if d.broker.isPath() {
		d.target, d.family = &unix.SockaddrUnix{Name: d.broker.Address}, unix.AF_UNIX
		return nil
	}
	resolved, err := net.ResolveTCPAddr("tcp", d.broker.Address)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	a := resolved.AddrPort()
	ip := a.Addr().Unmap()
	d.target, d.family = socketAddress(ip, int(a.Port()))
	for _, s := range d.broker.Sources {
		source, family := socketAddress(s.Unmap(), 0)
		if family != d.family {
			return fmt.Errorf("load: source %v and broker %v are not of the same kind", s, ip)
		}
		d.sources = append(d.sources, source)
	}
	if len(d.sources) == 0 && ip.Is4() && ip.IsLoopback() {
		for i := range loopbacks {
			d.sources = append(d.sources, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(1 + i)}})
		}
		d.first = rand.IntN(loopbacks)
	}
	return nil
}

func socketAddress(ip netip.Addr, port int) (unix.Sockaddr, int) {
	if ip.Is4() {
		return &unix.SockaddrInet4{Port: port, Addr: ip.As4()}, unix.AF_INET
	}
	return &unix.SockaddrInet6{Port: port, Addr: ip.As16()}, unix.AF_INET6
}

// now is the driver's clock in nanoseconds.
func (d *driver) now() int64 { return int64(time.Since(d.base)) }

// close closes all connections, ends the sampler and gives the thread back as it was.
func (d *driver) close() {
	for _, c := range d.conns {
		d.closeConn(c)
	}
	d.stop()
	_ = unix.Close(d.epoll)
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0)
	runtime.UnlockOSThread()
}

// add makes a connection that dial opens.
func (d *driver) add(clientID string, qos uint8, filters ...string) *conn {
	c := &conn{fd: -1, slot: len(d.conns), clientID: clientID, qos: qos, filters: filters}
	d.conns = append(d.conns, c)
	return c
}

// enter begins a phase; lasts is its length, 0 where that is not known.
func (d *driver) enter(p Phase, lasts time.Duration) {
	now := d.now()
	end := int64(0)
	if lasts > 0 {
		end = now + int64(lasts)
	}
	d.become(p, now, end, d.up)
}

// open brings up these connections in order, atOnce of them between connect and SUBACK at most, and
// perSecond of them begun if that is not 0.
func (d *driver) open(ctx context.Context, conns []*conn, atOnce, perSecond int) error {
	begun, next := d.now(), 0
	idle, last := begun, d.settled
	for next < len(conns) || d.handshakes > 0 {
		limit := d.now() + int64(longestWait)
		for next < len(conns) && d.handshakes < atOnce {
			if due := begun + int64(next)*int64(time.Second)/int64(max(perSecond, 1)); perSecond > 0 && due > d.now() {
				limit = min(limit, due)
				break
			}
			if err := d.dial(conns[next]); err != nil {
				return err
			}
			next++
		}
		if err := d.turn(ctx, limit); err != nil {
			return err
		}
		if now := d.now(); d.settled != last || d.handshakes == 0 {
			idle, last = now, d.settled
		} else if now-idle > int64(openTimeout) {
			return fmt.Errorf("load: %d of %d connections were up, and no more for %v", d.up, len(conns), openTimeout)
		}
	}
	return nil
}

// until turns to the driver's clock, or until done says so.
func (d *driver) until(ctx context.Context, limit int64, done func() bool) error {
	for d.now() < limit && (done == nil || !done()) {
		if err := d.turn(ctx, limit); err != nil {
			return err
		}
	}
	return nil
}

// turn waits for events, at most until the driver's clock reaches limit, and handles them.
func (d *driver) turn(ctx context.Context, limit int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n, err := d.wait(min(limit, d.pingAt) - d.now())
	if err != nil {
		return err
	}
	for i := range d.events[:n] {
		c := d.conns[d.events[i].Fd]
		if err := d.event(c, d.events[i].Events); err != nil {
			if err := d.fail(c, err); err != nil {
				return err
			}
		}
	}
	now := d.now()
	if now >= d.pingAt {
		if err := d.ping(now); err != nil {
			return err
		}
	}
	d.sample(now, d.up)
	return nil
}

func (d *driver) event(c *conn, events uint32) error {
	if events&unix.EPOLLOUT != 0 {
		if err := d.flush(c); err != nil {
			return err
		}
	}
	if events&^unix.EPOLLOUT != 0 {
		return d.read(c)
	}
	return nil
}

// fail closes the connection and lets the workload decide.
func (d *driver) fail(c *conn, err error) error {
	d.closeConn(c)
	d.settled++
	return d.handler.lost(c, err)
}

// wait is epoll_pwait2: the one wait with a timeout finer than a millisecond (Linux 5.11).
func (d *driver) wait(timeout int64) (int, error) {
	ts := unix.NsecToTimespec(min(max(timeout, 0), int64(longestWait)))
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(d.epoll), uintptr(unsafe.Pointer(&d.events[0])),
		eventsPerTurn, uintptr(unsafe.Pointer(&ts)), 0, 0)
	if errno == unix.EINTR {
		return 0, nil
	}
	if errno != 0 {
		return 0, fmt.Errorf("load: epoll_pwait2: %w", errno)
	}
	return int(n), nil
}

// dial starts a connection; its CONNECT is the first thing to be flushed.
func (d *driver) dial(c *conn) error {
	fd, err := unix.Socket(d.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("load: socket: %w", err)
	}
	c.begin(fd, d.now())
	c.wire = newWire(&d.broker)
	d.handshakes++
	if err := d.prepare(fd, c.slow); err != nil {
		return err
	}
	err = unix.Connect(fd, d.target)
	for i := 0; i < unixTries && errors.Is(err, unix.EAGAIN); i++ { // as many wait at a Unix socket as may
		time.Sleep(unixPause)
		err = unix.Connect(fd, d.target)
	}
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return d.fail(c, fmt.Errorf("load: %s: connect: %w", c.clientID, err))
	}
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.slot)}
	if err := unix.EpollCtl(d.epoll, unix.EPOLL_CTL_ADD, fd, &e); err != nil {
		return fmt.Errorf("load: epoll_ctl: %w", err)
	}
	c.out = connect{
		version: d.broker.Version, clientID: c.clientID, username: d.broker.Username, password: d.broker.Password,
		keepAlive: d.keepAlive, persistent: c.persistent,
	}.append(c.out)
	if c.wire != nil {
		err = d.shakeWire(c)
	} else {
		err = d.flush(c)
	}
	if err != nil {
		return d.fail(c, err)
	}
	return nil
}

// Connecting to a Unix socket at which as many wait as may.
const (
	unixTries = 1000
	unixPause = time.Millisecond
)

// slowReceiveBuffer is what the kernel may hold for a slow subscriber, before doubling.
const slowReceiveBuffer = 32 << 10

// prepare sets the options of a socket and spreads connections over the sources, so that ports suffice.
func (d *driver) prepare(fd int, slow bool) error {
	if d.family == unix.AF_UNIX {
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("load: TCP_NODELAY: %w", err)
	}
	if slow {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, slowReceiveBuffer); err != nil {
			return fmt.Errorf("load: SO_RCVBUF: %w", err)
		}
	}
	if len(d.sources) == 0 {
		return nil
	}
	source := d.sources[(d.first+d.dialed/d.perSource)%len(d.sources)]
	d.dialed++
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return fmt.Errorf("load: IP_BIND_ADDRESS_NO_PORT: %w", err)
	}
	if err := unix.Bind(fd, source); err != nil {
		return fmt.Errorf("load: bind to a source address: %w", err)
	}
	return nil
}
