package limits

// Holdings count what each client keeps in the broker. The zero value is
// empty. Any goroutine.
type Holdings struct {
	all shards[string, holding]
}

type holding struct{ messages, bytes int64 }

// Add adds to what the client id keeps; negative numbers take away.
func (h *Holdings) Add(id string, messages, bytes int64) {
	h.all.with(id, true, emptyHolding, func(e *holding) {
		e.messages += messages
		e.bytes += bytes
	})
}

// Of is what the client id keeps.
func (h *Holdings) Of(id string) (messages, bytes int64) {
	h.all.with(id, false, emptyHolding, func(e *holding) {
		if e != nil {
			messages, bytes = e.messages, e.bytes
		}
	})
	return messages, bytes
}

func emptyHolding(e *holding) bool { return e.messages == 0 && e.bytes == 0 }
