package codec

// A Will is the Will Message of a CONNECT. Its slices are borrowed from the body.
type Will struct {
	Topic   []byte // a valid Topic Name
	Payload []byte
	QoS     QoS
	Retain  bool
	// Properties are what is forwarded unaltered when the will is published: all but the Will Delay
	// Interval and the Message Expiry Interval.
	Properties       Properties
	DelayInterval    uint32 // seconds
	MessageExpiry    uint32 // seconds; meaningful only with HasMessageExpiry
	HasMessageExpiry bool
}

// A Connect is a CONNECT packet. Its slices, and those of its will, are borrowed from the body.
type Connect struct {
	Version     Version
	CleanStart  bool   // Clean Session in 3.x
	KeepAlive   uint16 // seconds, 0 is off
	Properties  Properties
	ClientID    []byte // possibly empty
	Will        *Will  // nil: none
	UserName    []byte
	Password    []byte
	HasUserName bool
	HasPassword bool
}

// Connect flags.
const (
	connectReserved   = 0x01
	connectCleanStart = 0x02
	connectWill       = 0x04
	connectWillQoS    = 0x18
	connectWillRetain = 0x20
	connectPassword   = 0x40
	connectUserName   = 0x80
)

// ParseConnect parses the body of a CONNECT. c.Version is set as soon as it is known, also when an
// error follows: it is the version to answer in, 0 if there is none. A version this package does not
// speak counts as 5.0 if it is newer and as 3.1.1 if it is older. It changes body as [ParsePublish]
// does.
func ParseConnect(c *Connect, body []byte) error {
	*c = Connect{}
	r := reader{b: body}
	if err := c.parseVersion(&r); err != nil {
		return err
	}
	flags := r.byte()
	c.KeepAlive = r.uint16()
	if r.err != nil {
		return r.err
	}
	flags, err := checkConnectFlags(flags, c.Version)
	if err != nil {
		return err
	}
	c.CleanStart = flags&connectCleanStart != 0
	c.Properties, _ = r.properties(c.Version, inConnect)
	c.ClientID = r.string() // [MQTT-3.1.3-3] [MQTT-3.1.3-4]
	if r.err != nil {
		return r.err
	}
	if flags&connectWill != 0 {
		if err := c.parseWill(&r, flags); err != nil {
			return err
		}
	}
	c.parseLogin(&r, flags)
	return r.end()
}

// parseVersion reads the protocol name and the protocol version, which go in pairs (M31-name).
func (c *Connect) parseVersion(r *reader) error {
	name := r.binary()
	if r.err != nil {
		return r.err
	}
	if string(name) != "MQTT" && string(name) != "MQIsdp" { // [MQTT-3.1.2-1]
		return errProtocolName
	}
	level := r.byte()
	if r.err != nil {
		return r.err
	}
	switch {
	case string(name) == "MQTT" && (level == byte(V311) || level == byte(V5)),
		string(name) == "MQIsdp" && level == byte(V31):
		c.Version = Version(level)
		return nil
	case level&^0x80 >= byte(V5): // the high bit marks a bridge (M31-bridge)
		c.Version = V5
	default:
		c.Version = V311
	}
	return errProtocolVersion // [MQTT-3.1.2-2]
}

// checkConnectFlags checks the connect flags and returns them without those that 3.1 ignores.
func checkConnectFlags(flags uint8, v Version) (uint8, error) {
	const willBits = connectWillQoS | connectWillRetain
	if v == V31 { // M31-willflags
		flags &^= connectReserved
		if flags&connectWill == 0 {
			flags &^= willBits
		}
	}
	switch {
	case flags&connectReserved != 0: // [MQTT-3.1.2-3]
		return 0, errConnectFlags
	case flags&connectWill == 0 && flags&willBits != 0: // [MQTT-3.1.2-11] [MQTT-3.1.2-13]
		return 0, errWillFlags
	case flags&connectWillQoS == connectWillQoS: // [MQTT-3.1.2-12]
		return 0, errQoS3
	case v != V5 && flags&connectPassword != 0 && flags&connectUserName == 0: // 311:MQTT-3.1.2-22, M31-pwd
		return 0, errPasswordAlone
	}
	return flags, nil
}

// parseWill reads the will and lifts out those of its properties that are not forwarded as they are.
func (c *Connect) parseWill(r *reader, flags uint8) error {
	w := &Will{QoS: QoS(flags & connectWillQoS >> 3), Retain: flags&connectWillRetain != 0}
	var seen propertySet
	w.Properties, seen = r.properties(c.Version, inWill)
	w.Topic = r.binary()
	w.Payload = r.binary()
	if r.err != nil { // [MQTT-3.1.2-9]
		return r.err
	}
	if err := checkTopicName(w.Topic); err != nil { // [MQTT-3.1.3-11]
		return err
	}
	if len(w.Topic) == 0 { // U5-3.1.3.3
		return errEmptyWillTopic
	}
	if seen.has(WillDelayInterval) {
		w.DelayInterval = w.Properties.lift(WillDelayInterval)
	}
	if seen.has(MessageExpiryInterval) {
		w.MessageExpiry, w.HasMessageExpiry = w.Properties.lift(MessageExpiryInterval), true
	}
	c.Will = w
	return nil
}

// parseLogin reads user name and password [MQTT-3.1.2-17] [MQTT-3.1.2-19]. In 3.1 either may be
// missing in spite of its flag (M31-login).
func (c *Connect) parseLogin(r *reader, flags uint8) {
	mayMiss := c.Version == V31
	if flags&connectUserName != 0 && !(mayMiss && len(r.b) == 0) {
		c.UserName, c.HasUserName = r.string(), true // [MQTT-3.1.3-12]
	}
	if flags&connectPassword != 0 && !(mayMiss && len(r.b) == 0) {
		c.Password, c.HasPassword = r.binary(), true
	}
}

// flags returns the connect flags.
func (c *Connect) flags() byte {
	var flags byte
	if c.CleanStart {
		flags |= connectCleanStart
	}
	if c.Will != nil {
		flags |= connectWill | byte(c.Will.QoS)<<3&connectWillQoS
		if c.Will.Retain {
			flags |= connectWillRetain
		}
	}
	if c.HasPassword {
		flags |= connectPassword
	}
	if c.HasUserName {
		flags |= connectUserName
	}
	return flags
}

// protocolName returns the name that goes with the version.
func (v Version) protocolName() string {
	if v == V31 {
		return "MQIsdp"
	}
	return "MQTT"
}

// Append appends the packet in the form of c.Version. Its fields must be shorter than
// [MaxFieldLength].
func (c *Connect) Append(dst []byte) []byte {
	name := c.Version.protocolName()
	remaining := 2 + len(name) + 4 + propertiesSize(c.Version, len(c.Properties)) + 2 + len(c.ClientID)
	if c.Will != nil {
		remaining += c.Will.size(c.Version)
	}
	if c.HasUserName {
		remaining += 2 + len(c.UserName)
	}
	if c.HasPassword {
		remaining += 2 + len(c.Password)
	}
	dst = appendHeader(dst, CONNECT, 0, remaining)
	dst = appendField(dst, name)
	dst = append(dst, byte(c.Version), c.flags(), byte(c.KeepAlive>>8), byte(c.KeepAlive))
	dst = appendProperties(dst, c.Version, c.Properties)
	dst = appendField(dst, c.ClientID)
	if c.Will != nil {
		dst = c.Will.append(dst, c.Version)
	}
	if c.HasUserName {
		dst = appendField(dst, c.UserName)
	}
	if c.HasPassword {
		dst = appendField(dst, c.Password)
	}
	return dst
}

// propertiesLength returns the Property Length of the will.
func (w *Will) propertiesLength() int {
	n := len(w.Properties)
	if w.DelayInterval != 0 {
		n += 5
	}
	if w.HasMessageExpiry {
		n += 5
	}
	return n
}

// size returns the bytes of the will in the payload of the CONNECT.
func (w *Will) size(v Version) int {
	return propertiesSize(v, w.propertiesLength()) + 2 + len(w.Topic) + 2 + len(w.Payload)
}

// append appends the will as it stands in the payload of the CONNECT.
func (w *Will) append(dst []byte, v Version) []byte {
	if v == V5 {
		dst = appendVarint(dst, w.propertiesLength())
		if w.DelayInterval != 0 {
			dst = AppendUint(dst, WillDelayInterval, w.DelayInterval)
		}
		if w.HasMessageExpiry {
			dst = AppendUint(dst, MessageExpiryInterval, w.MessageExpiry)
		}
		dst = append(dst, w.Properties...)
	}
	return appendField(appendField(dst, w.Topic), w.Payload)
}
