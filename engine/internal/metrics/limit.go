package metrics

// A Limit is one against abuse that took effect.
type Limit uint8

// The limits.
const (
	Banned             Limit = iota // CONNECT refused
	AddressConnections              // CONNECT refused
	AddressConnectRate              // CONNECT refused
	ClientConnectRate               // CONNECT refused
	RatePaused                      // reading from a client paused
	RateDisconnected                // a client was disconnected
	NumLimits
)

var limitNames = [NumLimits]string{"banned", "address-connections", "address-connect-rate", "client-connect-rate", "rate-paused", "rate-disconnected"}

func (l Limit) String() string { return limitNames[l] }
