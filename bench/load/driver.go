package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bounds of a driver.
const (
	readBytes      = 256 << 10        // one read; also the longest packet accepted
	eventsPerTurn  = 512              // epoll events taken at once
	handshakesOpen = 64               // connections between connect and SUBACK at once; below any broker's backlog
	openTimeout    = 60 * time.Second // to bring up all connections
	longestWait    = 100 * time.Millisecond
	sourcesCount   = 250 // loopback source addresses 127.0.0.1 to 127.0.0.250
)

// A handler is the workload's side of a driver. Its methods run on the driver's goroutine.
type handler interface {
	// ready tells that the connection is accepted and subscribed.
	ready(c *conn) error
	// packet gets a packet of a ready connection; body is borrowed. now is the driver's clock
	// after the read that brought it.
	packet(c *conn, first byte, body []byte, now int64) error
}

// A driver runs all connections of a workload on one locked thread.
//
// Ownership: one goroutine makes, uses and closes it.
type driver struct {
	epoll   int
	handler handler
	base    time.Time // the driver's clock counts from here

	target    unix.Sockaddr
	family    int
	loopback  bool // IPv4 loopback: source addresses may be chosen
	perSource int  // connections made from one source address before the next one is taken
	dialed    int

	conns      []*conn
	handshakes int // connections between connect and SUBACK

	events [eventsPerTurn]unix.EpollEvent
	in     []byte
}

func newDriver(address string, h handler, perSource int) (*driver, error) {
	resolved, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	d := &driver{handler: h, base: time.Now(), perSource: perSource, in: make([]byte, readBytes)}
	d.setTarget(resolved.AddrPort())
	if d.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("load: epoll_create1: %w", err)
	}
	runtime.LockOSThread()
	// Without this the kernel may end a wait 50 microseconds late, as long as a message every 50 is due.
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		d.close()
		return nil, fmt.Errorf("load: timer slack: %w", err)
	}
	return d, nil
}

func (d *driver) setTarget(a netip.AddrPort) {
	ip := a.Addr().Unmap()
	if ip.Is4() {
		d.family, d.loopback = unix.AF_INET, ip.IsLoopback()
		d.target = &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}
		return
	}
	d.family = unix.AF_INET6
	d.target = &unix.SockaddrInet6{Port: int(a.Port()), Addr: ip.As16()}
}

// now is the driver's clock in nanoseconds.
func (d *driver) now() int64 { return int64(time.Since(d.base)) }

// close closes all connections and gives the thread back as it was.
func (d *driver) close() {
	for _, c := range d.conns {
		c.close()
	}
	_ = unix.Close(d.epoll)
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0)
	runtime.UnlockOSThread()
}

// add makes a connection that dial opens.
func (d *driver) add(clientID, filter string, qos uint8) *conn {
	c := &conn{fd: -1, slot: len(d.conns), clientID: clientID, filter: filter, qos: qos}
	d.conns = append(d.conns, c)
	return c
}

// open brings up all connections in order, a bounded number at once.
func (d *driver) open(ctx context.Context) error {
	limit := d.now() + int64(openTimeout)
	next := 0
	for next < len(d.conns) || d.handshakes > 0 {
		for next < len(d.conns) && d.handshakes < handshakesOpen {
			if err := d.dial(d.conns[next]); err != nil {
				return err
			}
			next++
		}
		if err := d.turn(ctx, limit); err != nil {
			return err
		}
		if d.now() >= limit {
			return fmt.Errorf("load: %d of %d connections were up after %v", next-d.handshakes, len(d.conns), openTimeout)
		}
	}
	return nil
}

// turn waits for events, at most until the driver's clock reaches limit, and handles them.
func (d *driver) turn(ctx context.Context, limit int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n, err := d.wait(limit - d.now())
	if err != nil {
		return err
	}
	for i := range d.events[:n] {
		e := &d.events[i]
		c := d.conns[e.Fd]
		if e.Events&unix.EPOLLOUT != 0 {
			if err := d.flush(c); err != nil {
				return err
			}
		}
		if e.Events&^unix.EPOLLOUT != 0 {
			if err := d.read(c); err != nil {
				return err
			}
		}
	}
	return nil
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
	c.begin(fd)
	d.handshakes++
	if err := d.bindSource(fd); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("load: TCP_NODELAY: %w", err)
	}
	if err := unix.Connect(fd, d.target); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("load: connect: %w", err)
	}
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.slot)}
	if err := unix.EpollCtl(d.epoll, unix.EPOLL_CTL_ADD, fd, &e); err != nil {
		return fmt.Errorf("load: epoll_ctl: %w", err)
	}
	c.out = appendConnect(c.out, c.clientID, keepAliveSeconds)
	return d.flush(c)
}

// bindSource spreads loopback connections over source addresses, so that ports suffice.
func (d *driver) bindSource(fd int) error {
	source := d.dialed / d.perSource % sourcesCount
	d.dialed++
	if !d.loopback {
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return fmt.Errorf("load: IP_BIND_ADDRESS_NO_PORT: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(1 + source)}}); err != nil {
		return fmt.Errorf("load: bind: %w", err)
	}
	return nil
}
