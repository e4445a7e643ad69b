//go:build invariants

package message

import "testing"

func TestReleasedBytesAreOverwritten(t *testing.T) {
	for _, m := range []*Message{NewPool(new(Shared)).New([]byte("t"), []byte("x"), nil), NewLasting([]byte("t"), []byte("x"), nil)} {
		kept := m.Payload
		m.Release(NewPool(new(Shared)))
		if kept[0] != 0xDB {
			t.Errorf("use after release reads %x, want db", kept)
		}
	}
}
