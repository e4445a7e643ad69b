package codec

// Limits of the wire format. What a broker allows below them is its own policy.
const (
	// MaxFieldLength is the longest string or binary field: its length has two bytes.
	MaxFieldLength = 65535
	// MaxRemainingLength is the largest variable byte integer: four bytes of seven bits (U5-1.5.5).
	MaxRemainingLength = 1<<28 - 1
	// MaxHeaderSize is the longest fixed header: type and flags, then up to four length bytes.
	MaxHeaderSize = 5
	// MaxFilters is the most Topic Filters that one SUBSCRIBE or UNSUBSCRIBE may carry here. A filter
	// of three bytes on the wire costs up to 32 bytes decoded, so without it a packet of the usual
	// 1 MiB would make 11 MB. The standard names no bound; the answer is [QuotaExceeded].
	MaxFilters = 16384
)
