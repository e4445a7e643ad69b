package metrics

// A Limit is one against abuse that took effect.
type Limit uint8

// The limits.
const (
	Banned              Limit = iota // CONNECT refused, or the connection before TLS
	AddressConnections               // the same
	AddressConnectRate               // the same
	ClientConnectRate                // CONNECT refused
	RatePaused                       // reading from a client paused
	RateDisconnected                 // a client was disconnected
	SharedRatePaused                 // reading paused for the rate of a user, an address or a listener
	SendRatePaused                   // sending to a client paused, for its rate or one that it shares
	TopicLevels                      // PUBLISH, SUBSCRIBE or will refused: the topic has too many levels
	TopicLength                      // the same: it is too long
	PacketFilters                    // filters refused: too many in one SUBSCRIBE
	Subscriptions                    // filters refused: too many of the session
	Retained                         // messages refused: too many are retained, or too large
	ClientRetained                   // the same, of one client
	UserConnections                  // CONNECT refused: as many of its user name are connected as may be
	UserConnectRate                  // CONNECT refused: its user name connects too often
	ListenerConnectRate              // CONNECT refused, or the connection before TLS
	Overload                         // CONNECT refused: the loop is late
	NumLimits
)

var limitNames = [NumLimits]string{"banned", "address-connections", "address-connect-rate", "client-connect-rate", "rate-paused", "rate-disconnected",
	"shared-rate-paused", "send-rate-paused", "topic-levels", "topic-length", "packet-filters", "subscriptions", "retained", "client-retained",
	"user-connections", "user-connect-rate", "listener-connect-rate", "overload"}

func (l Limit) String() string { return limitNames[l] }
