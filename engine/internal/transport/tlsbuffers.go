package transport

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// crypto/tls keeps two buffers for each connection that are empty while it is
// idle, 3.5 KB after a handshake and about 1 KB later: nearly half of what such
// a connection costs. They are exchanged here for one that the loop's
// connections share. Where a version of crypto/tls has other fields, they stay.
var (
	rawInputField = bufferField("rawInput") // ciphertext that is not decrypted yet
	handField     = bufferField("hand")     // part of a handshake message
)

// keptRawBytes bounds the buffer that a loop's connections share.
const keptRawBytes = 64 << 10

// bufferField is the offset in tls.Conn of a field that is a bytes.Buffer; 0
// when there is none.
func bufferField(name string) uintptr {
	f, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
	if !ok || f.Type != reflect.TypeFor[bytes.Buffer]() {
		return 0
	}
	return f.Offset
}

// bufferOf is the field at offset of c; nil when there is none. Nobody else
// may be at work with c.
func bufferOf(c *tls.Conn, offset uintptr) *bytes.Buffer {
	if offset == 0 {
		return nil
	}
	return (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), offset))
}

// dropBuffers lets go of what the handshake needed.
func (t *tlsLayer) dropBuffers() {
	for _, field := range []uintptr{rawInputField, handField} {
		if b := bufferOf(t.conn, field); b != nil && b.Len() == 0 {
			*b = bytes.Buffer{}
		}
	}
}

// lendBuffer gives the connection the loop's buffer to read with.
func (t *tlsLayer) lendBuffer() {
	if b := bufferOf(t.conn, rawInputField); b != nil && b.Len() == 0 {
		*b = *bytes.NewBuffer(t.s.loop.scratch.raw)
		t.s.loop.scratch.raw = nil
	}
}

// takeBuffer takes it back, unless there is part of a record in it.
func (t *tlsLayer) takeBuffer() {
	b := bufferOf(t.conn, rawInputField)
	if b == nil || b.Len() > 0 {
		return
	}
	b.Reset()
	if raw := b.AvailableBuffer(); cap(raw) <= keptRawBytes {
		t.s.loop.scratch.raw = raw
	}
	*b = bytes.Buffer{}
}
