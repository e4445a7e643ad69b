package codec

import "fmt"

// A PropertyID names a property of MQTT 5.0 section 2.2.2.2. All fit one byte.
type PropertyID uint8

// The property identifiers.
const (
	PayloadFormatIndicator           PropertyID = 0x01
	MessageExpiryInterval            PropertyID = 0x02
	ContentType                      PropertyID = 0x03
	ResponseTopic                    PropertyID = 0x08
	CorrelationData                  PropertyID = 0x09
	SubscriptionIdentifier           PropertyID = 0x0B
	SessionExpiryInterval            PropertyID = 0x11
	AssignedClientIdentifier         PropertyID = 0x12
	ServerKeepAlive                  PropertyID = 0x13
	AuthenticationMethod             PropertyID = 0x15
	AuthenticationData               PropertyID = 0x16
	RequestProblemInformation        PropertyID = 0x17
	WillDelayInterval                PropertyID = 0x18
	RequestResponseInformation       PropertyID = 0x19
	ResponseInformation              PropertyID = 0x1A
	ServerReference                  PropertyID = 0x1C
	ReasonString                     PropertyID = 0x1F
	ReceiveMaximum                   PropertyID = 0x21
	TopicAliasMaximum                PropertyID = 0x22
	TopicAlias                       PropertyID = 0x23
	MaximumQoS                       PropertyID = 0x24
	RetainAvailable                  PropertyID = 0x25
	UserProperty                     PropertyID = 0x26
	MaximumPacketSize                PropertyID = 0x27
	WildcardSubscriptionAvailable    PropertyID = 0x28
	SubscriptionIdentifiersAvailable PropertyID = 0x29
	SharedSubscriptionAvailable      PropertyID = 0x2A
)

// A valueType is how the value of a property is encoded.
type valueType uint8

const (
	typeNone valueType = iota // no such property
	typeByte
	typeUint16
	typeUint32
	typeVarint
	typeString
	typeBinary
	typePair // two strings
)

// A valueRule is what a value must satisfy beyond its encoding.
type valueRule uint8

const (
	anyValue     valueRule = iota
	zeroOrOne              // else Protocol Error
	notZero                // else Protocol Error
	aliasNotZero           // else Topic Alias invalid
	noWildcard             // else Protocol Error
)

// A context is a set of the places where properties stand.
type context uint16

const (
	inConnect context = 1 << iota
	inWill
	inConnack
	inPublishClient // PUBLISH from a client
	inPublishServer // PUBLISH from a server
	inAck           // PUBACK, PUBREC, PUBREL, PUBCOMP
	inSubscribe
	inSuback
	inUnsubscribe
	inUnsuback
	inDisconnectClient
	inDisconnectServer
	inAuth

	inAny     = inAuth<<1 - 1
	inPublish = inPublishClient | inPublishServer
	inMessage = inWill | inPublish // travels with an Application Message
	inReply   = inConnack | inAck | inSuback | inUnsuback | inDisconnectClient | inDisconnectServer | inAuth
)

// propertyTable is all there is to know about each property.
var propertyTable = [...]struct {
	name      string
	typ       valueType
	rule      valueRule
	once      context // may stand there at most once
	many      context // may stand there any number of times
	wrongSide context // standing there is a Protocol Error of its own; elsewhere it is malformed
}{
	PayloadFormatIndicator: {name: "Payload Format Indicator", typ: typeByte, rule: zeroOrOne, once: inMessage},
	MessageExpiryInterval:  {name: "Message Expiry Interval", typ: typeUint32, once: inMessage},
	ContentType:            {name: "Content Type", typ: typeString, once: inMessage},
	ResponseTopic:          {name: "Response Topic", typ: typeString, rule: noWildcard, once: inMessage},
	CorrelationData:        {name: "Correlation Data", typ: typeBinary, once: inMessage},
	SubscriptionIdentifier: {name: "Subscription Identifier", typ: typeVarint, rule: notZero, once: inSubscribe,
		many: inPublishServer, wrongSide: inPublishClient}, // [MQTT-3.3.4-6]
	SessionExpiryInterval: {name: "Session Expiry Interval", typ: typeUint32,
		once: inConnect | inConnack | inDisconnectClient, wrongSide: inDisconnectServer}, // [MQTT-3.14.2-2]
	AssignedClientIdentifier:         {name: "Assigned Client Identifier", typ: typeString, once: inConnack},
	ServerKeepAlive:                  {name: "Server Keep Alive", typ: typeUint16, once: inConnack},
	AuthenticationMethod:             {name: "Authentication Method", typ: typeString, once: inConnect | inConnack | inAuth},
	AuthenticationData:               {name: "Authentication Data", typ: typeBinary, once: inConnect | inConnack | inAuth},
	RequestProblemInformation:        {name: "Request Problem Information", typ: typeByte, rule: zeroOrOne, once: inConnect},
	WillDelayInterval:                {name: "Will Delay Interval", typ: typeUint32, once: inWill},
	RequestResponseInformation:       {name: "Request Response Information", typ: typeByte, rule: zeroOrOne, once: inConnect},
	ResponseInformation:              {name: "Response Information", typ: typeString, once: inConnack},
	ServerReference:                  {name: "Server Reference", typ: typeString, once: inConnack | inDisconnectServer},
	ReasonString:                     {name: "Reason String", typ: typeString, once: inReply},
	ReceiveMaximum:                   {name: "Receive Maximum", typ: typeUint16, rule: notZero, once: inConnect | inConnack},
	TopicAliasMaximum:                {name: "Topic Alias Maximum", typ: typeUint16, once: inConnect | inConnack},
	TopicAlias:                       {name: "Topic Alias", typ: typeUint16, rule: aliasNotZero, once: inPublish},
	MaximumQoS:                       {name: "Maximum QoS", typ: typeByte, rule: zeroOrOne, once: inConnack},
	RetainAvailable:                  {name: "Retain Available", typ: typeByte, rule: zeroOrOne, once: inConnack},
	UserProperty:                     {name: "User Property", typ: typePair, many: inAny},
	MaximumPacketSize:                {name: "Maximum Packet Size", typ: typeUint32, rule: notZero, once: inConnect | inConnack},
	WildcardSubscriptionAvailable:    {name: "Wildcard Subscription Available", typ: typeByte, rule: zeroOrOne, once: inConnack},
	SubscriptionIdentifiersAvailable: {name: "Subscription Identifiers Available", typ: typeByte, rule: zeroOrOne, once: inConnack},
	SharedSubscriptionAvailable:      {name: "Shared Subscription Available", typ: typeByte, rule: zeroOrOne, once: inConnack},
}

// valueType returns how id is encoded, typeNone if there is no such property.
func (id PropertyID) valueType() valueType {
	if int(id) >= len(propertyTable) {
		return typeNone
	}
	return propertyTable[id].typ
}

// String returns the standard's name of the property.
func (id PropertyID) String() string {
	if id.valueType() == typeNone {
		return fmt.Sprintf("property 0x%02X", uint8(id))
	}
	return propertyTable[id].name
}
