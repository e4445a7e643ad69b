package transport

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"

	sockopt "github.com/panjf2000/gnet/v2/pkg/socket"
	"golang.org/x/sys/unix"
)

// bindGnet prepares l for gnet: it binds the address without SO_REUSEPORT
// first, which finds a port in use that SO_REUSEPORT would hide, and settles
// port 0. The port stays held until gnet has it too, so that nobody comes
// between; connections are not taken meanwhile.
func (s *Server) bindGnet(l *Listener) (*listening, error) {
	addr, url, err := s.hold(l.Address)
	if err != nil {
		return nil, fmt.Errorf("transport: cannot listen: %w", err)
	}
	in := newListening(l, s)
	in.addr, in.url = addr, url
	s.static = append(s.static, in)
	return in, nil
}

// hold binds address and returns what to tell gnet.
func (s *Server) hold(address string) (net.Addr, string, error) {
	network, everyAddress := family(address)
	config := net.ListenConfig{Control: mute}
	l, err := config.Listen(context.Background(), network, address)
	if err != nil {
		return nil, "", err
	}
	s.held = append(s.held, l)
	if err := share(l); err != nil {
		return nil, "", err
	}
	url := l.Addr().String()
	if everyAddress {
		url = fmt.Sprintf(":%d", l.Addr().(*net.TCPAddr).Port) // gnet reads [::] as IPv6 only
	}
	return l.Addr(), "tcp://" + url, nil
}

// share lets gnet bind the address of l beside it. Linux looks at the option
// when the second socket is bound; elsewhere it had to be set before l was
// bound, so there l gives way at once.
func share(l net.Listener) error {
	if runtime.GOOS != "linux" {
		return l.Close()
	}
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = sockopt.SetReuseport(int(fd), 1) }); err != nil {
		return err
	}
	return failed
}

// release lets go of the ports that hold bound.
func (s *Server) release() {
	for _, l := range s.held {
		l.Close()
	}
	s.held = nil
}

// family is the network to bind a on, so that net opens the same families as
// gnet: net would take 0.0.0.0 for both. An empty host is every address of both.
func family(a string) (network string, everyAddress bool) {
	host, _, _ := net.SplitHostPort(a) // net.Listen reports what is wrong
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return "tcp", host == ""
	case ip.Is4():
		return "tcp4", false
	default:
		return "tcp6", false
	}
}

// urls is what a run of gnet listens on. It does not run without an address,
// so where it has none it gets one that is closed before anyone knows of it.
func (s *Server) urls() ([]string, error) {
	var urls []string
	for _, in := range s.static {
		if !in.closed.Load() {
			urls = append(urls, in.url)
		}
	}
	s.placeholder = nil
	if len(urls) > 0 {
		return urls, nil
	}
	addr, url, err := s.hold("127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("transport: cannot start the event loops: %w", err)
	}
	s.placeholder = addr
	return []string{url}, nil
}

// silenceClosed closes gnet's listeners that are not to be there: the
// placeholder, and what was closed while the loops started.
func (s *Server) silenceClosed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.placeholder != nil {
		if err := s.silence(s.placeholder); err != nil {
			return err
		}
	}
	for _, in := range s.static {
		if in.closed.Load() {
			if err := s.silence(in.addr); err != nil {
				return err
			}
		}
	}
	return nil
}

// silence closes the sockets with which gnet listens on addr. gnet cannot close
// one listener, and ends when accept fails; so each of the descriptors is made
// one of a socket that nobody knows, and accept finds nothing there. s.mu is
// held: gnet does not end meanwhile.
func (s *Server) silence(addr net.Addr) error {
	if !s.running {
		return nil // the next run listens on what is open then
	}
	deaf, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(deaf)
	unix.CloseOnExec(deaf)
	if err := listenUnnamed(deaf); err != nil {
		return err
	}
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || !listensOn(fd, addr.(*net.TCPAddr)) {
			continue
		}
		if err := unix.Dup2(deaf, fd); err != nil {
			return os.NewSyscallError("dup2", err)
		}
		unix.CloseOnExec(fd)
	}
	return nil
}

// listenUnnamed makes fd a listening socket: Linux gives it an address that nobody is told.
func listenUnnamed(fd int) error {
	if err := unix.Bind(fd, &unix.SockaddrUnix{}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	return os.NewSyscallError("listen", unix.Listen(fd, 1))
}

// listensOn reports whether fd is a socket that listens on addr.
func listensOn(fd int, addr *net.TCPAddr) bool {
	if v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || v == 0 {
		return false
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return false
	}
	switch a := local.(type) {
	case *unix.SockaddrInet4:
		return a.Port == addr.Port && addr.IP.Equal(a.Addr[:])
	case *unix.SockaddrInet6:
		return a.Port == addr.Port && addr.IP.Equal(a.Addr[:])
	}
	return false
}

// arrived is the listener of gnet's by which a connection came; nil when it is
// none that is open.
func (s *Server) arrived(local net.Addr) *listening {
	a, ok := local.(*net.TCPAddr)
	if !ok {
		return nil
	}
	for _, in := range s.static {
		t := in.addr.(*net.TCPAddr)
		if t.Port == a.Port && (t.IP.Equal(a.IP) || t.IP.IsUnspecified()) && !in.closed.Load() {
			return in
		}
	}
	return nil
}
