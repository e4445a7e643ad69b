package transport

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"

	proxyproto "github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
)

// A Proxy says whose PROXY headers are believed. Immutable.
type Proxy struct {
	Trusted    []netip.Prefix // senders over TCP; unix sockets are trusted
	Version    int            // 1 or 2: only this one; 0: both
	RequireTLS bool           // the client must have come to the proxy by TLS
}

// Proxied is what a PROXY header tells of the client beside its address.
type Proxied struct {
	TLS        bool   // it came to the proxy by TLS
	TLSVersion string // as the proxy writes it
	Authority  string // server name it asked for
	CommonName string // of its certificate, which the proxy has verified; "" without one
}

const (
	proxyV1Bytes  = 107
	proxyV2Header = 16
	proxyV2Bytes  = 4 << 10 // the whole header
)

var (
	proxyV1 = []byte("PROXY ")
	proxyV2 = []byte("\r\n\r\n\x00\r\nQUIT\n")

	errNoHeader   = errors.New("the connection does not begin with one")
	errLongHeader = errors.New("it is too long")
)

// proxyHeader collects the header and takes it; it returns what comes behind.
func (s *layered) proxyHeader(b []byte) []byte {
	if !s.in.trusts(s.socket.RemoteAddr()) {
		s.fail("PROXY: the sender is not trusted", nil)
		return nil
	}
	whole := append(s.begun, b...)
	size, err := s.in.proxyHeaderSize(whole)
	if err == nil && size == 0 {
		s.begun = whole[:len(whole):len(whole)]
		return nil
	}
	s.begun = nil
	if err == nil {
		err = s.proxyFrom(whole[:size])
	}
	if err != nil {
		s.fail("PROXY header refused", err)
		return nil
	}
	s.await &^= awaitProxy
	return b[len(b)-(len(whole)-size):]
}

// trusts reports whether headers of the sender at a are believed.
func (in *listening) trusts(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return true // whoever may open a unix socket
	}
	ip := t.AddrPort().Addr().Unmap()
	for _, p := range in.Proxy.Trusted {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// proxyHeaderSize is how long the header at the start of b is; 0 when more must
// come to know.
func (in *listening) proxyHeaderSize(b []byte) (int, error) {
	v := in.Proxy.Version
	switch {
	case v != 2 && prefixOf(b, proxyV1):
		end := bytes.IndexByte(b, '\n')
		switch {
		case end >= proxyV1Bytes || end < 0 && len(b) >= proxyV1Bytes:
			return 0, errLongHeader
		default:
			return end + 1, nil
		}
	case v != 1 && prefixOf(b, proxyV2):
		if len(b) < proxyV2Header {
			return 0, nil
		}
		size := proxyV2Header + int(binary.BigEndian.Uint16(b[14:]))
		switch {
		case size > proxyV2Bytes:
			return 0, errLongHeader
		case len(b) < size:
			return 0, nil
		default:
			return size, nil
		}
	}
	return 0, errNoHeader
}

// prefixOf reports whether b begins with p, as far as both go.
func prefixOf(b, p []byte) bool {
	n := min(len(b), len(p))
	return bytes.Equal(b[:n], p[:n])
}

// proxyFrom takes what the header b says.
func (s *layered) proxyFrom(b []byte) error {
	h, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(b), len(b)))
	if err != nil {
		return err
	}
	if err := checkSum(h, b); err != nil {
		return err
	}
	tlvs, err := h.TLVs()
	if err != nil {
		return err
	}
	told := &Proxied{}
	for _, t := range tlvs {
		switch {
		case t.Type == proxyproto.PP2_TYPE_AUTHORITY:
			told.Authority = string(t.Value)
		case tlvparse.IsSSL(t):
			if err := told.takeTLS(t); err != nil {
				return err
			}
		}
	}
	if h.Command.IsLocal() {
		return nil // the proxy itself, to see whether we are there: the address is its own
	}
	if !h.TransportProtocol.IsStream() {
		return fmt.Errorf("its transport %#x is no stream", byte(h.TransportProtocol))
	}
	if s.in.Proxy.RequireTLS && !told.TLS {
		return errors.New("the client came to the proxy without TLS")
	}
	s.remote, s.local, s.proxied = h.SourceAddr, h.DestinationAddr, told
	return nil
}

func (p *Proxied) takeTLS(t proxyproto.TLV) error {
	ssl, err := tlvparse.SSL(t)
	if err != nil {
		return err
	}
	p.TLS = ssl.ClientSSL()
	p.TLSVersion, _ = ssl.SSLVersion()
	if ssl.Verified() && (ssl.ClientCertConn() || ssl.ClientCertSess()) { // "verified" is also said where there is none
		p.CommonName, _ = ssl.ClientCN()
	}
	return nil
}

// checkSum verifies the sum that a header of version 2 may carry.
func checkSum(h *proxyproto.Header, b []byte) error {
	if h.Version != 2 {
		return nil
	}
	at := proxyV2Header
	switch {
	case h.TransportProtocol.IsIPv4():
		at += 12
	case h.TransportProtocol.IsIPv6():
		at += 36
	case h.TransportProtocol.IsUnix():
		at += 216
	}
	for at+3 <= len(b) {
		size := int(binary.BigEndian.Uint16(b[at+1:]))
		value := b[at+3:]
		if size > len(value) {
			return errors.New("a part of it is longer than the rest")
		}
		if b[at] == byte(proxyproto.PP2_TYPE_CRC32C) && size == 4 {
			sum := binary.BigEndian.Uint32(value)
			clean := append([]byte(nil), b...)
			clear(clean[at+3 : at+7])
			if crc32.Checksum(clean, crc32.MakeTable(crc32.Castagnoli)) != sum {
				return errors.New("its checksum is wrong")
			}
		}
		at += 3 + size
	}
	return nil
}
