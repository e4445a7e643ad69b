package codec

import (
	"encoding/binary"
	"iter"
)

// Properties are the encoded properties of one packet, without the length that goes before them on
// the wire. Those that come out of a Parse function are valid for their packet and borrowed from its
// body; those that go into an Append function are trusted and copied. nil means none.
type Properties []byte

// A Property is one decoded property; its slices are borrowed from the Properties it was read from.
type Property struct {
	ID    PropertyID
	Uint  uint32 // value of a byte, two byte, four byte or variable byte integer property
	Bytes []byte // value of a string or binary property; name of a User Property
	Value []byte // value of a User Property
}

// decode reads the first property in b and returns how many bytes it takes.
func (p *Property) decode(b []byte) (int, error) {
	if len(b) == 0 || int(b[0]) >= len(propertyTable) {
		return 0, errPropertyUnknown
	}
	*p = Property{ID: PropertyID(b[0])}
	rest := reader{b: b[1:]}
	switch propertyTable[p.ID].typ {
	case typeByte:
		p.Uint = uint32(rest.byte())
	case typeUint16:
		p.Uint = uint32(rest.uint16())
	case typeUint32:
		if b := rest.take(4); b != nil {
			p.Uint = binary.BigEndian.Uint32(b)
		}
	case typeVarint:
		v, n, err := readVarint(rest.b)
		if n == 0 && err == nil {
			err = errShort
		}
		if err != nil {
			return 0, err
		}
		p.Uint, rest.b = uint32(v), rest.b[n:]
	case typeString, typeBinary:
		p.Bytes = rest.binary()
	case typePair:
		p.Bytes, p.Value = rest.binary(), rest.binary()
	default:
		return 0, errPropertyUnknown
	}
	return len(b) - len(rest.b), rest.err
}

// check checks the value against the rules of its property.
func (p *Property) check() error {
	spec := &propertyTable[p.ID]
	if spec.typ == typeString || spec.typ == typePair { // [MQTT-1.5.7-1]
		if err := checkString(p.Bytes); err != nil {
			return err
		}
		if err := checkString(p.Value); err != nil {
			return err
		}
	}
	switch spec.rule {
	case anyValue:
	case zeroOrOne:
		if p.Uint > 1 {
			return errPropertyValue
		}
	case notZero:
		if p.Uint == 0 {
			return errPropertyValue
		}
	case aliasNotZero: // [MQTT-3.3.2-8]
		if p.Uint == 0 {
			return errTopicAlias
		}
	case noWildcard: // [MQTT-3.3.2-14]
		for _, c := range p.Bytes {
			if c == '+' || c == '#' {
				return errResponseTopic
			}
		}
	}
	return nil
}

// A propertySet has bit id set for each property that occurs.
type propertySet uint64

func (s propertySet) has(id PropertyID) bool { return s>>id&1 != 0 }

// check validates p as the properties of one kind of packet and returns which occur.
func (p Properties) check(in context) (seen propertySet, err error) {
	var prop Property
	for b := []byte(p); len(b) > 0; {
		n, err := prop.decode(b)
		if err != nil {
			return seen, err
		}
		spec := &propertyTable[prop.ID]
		switch {
		case spec.wrongSide&in != 0:
			return seen, errPropertySide
		case (spec.once|spec.many)&in == 0: // U5-2.2.2.2-id
			return seen, errPropertyHere
		case seen.has(prop.ID) && spec.many&in == 0: // U5-2.2.2.2-dup
			return seen, errPropertyTwice
		}
		if err := prop.check(); err != nil {
			return seen, err
		}
		seen |= 1 << prop.ID
		b = b[n:]
	}
	if seen.has(AuthenticationData) && !seen.has(AuthenticationMethod) && in != inAuth { // U5-3.1.2.11.10
		return seen, errAuthDataAlone
	}
	return seen, nil
}

// properties reads a Property Length and the properties that follow; none in 3.x.
func (r *reader) properties(v Version, in context) (p Properties, seen propertySet) {
	if v != V5 || r.err != nil {
		return nil, 0
	}
	length, n, err := readVarint(r.b)
	switch {
	case err != nil:
		r.fail(err)
		return nil, 0
	case n == 0:
		r.fail(errShort)
		return nil, 0
	case length > len(r.b)-n: // U5-2.2.2.2-len
		r.fail(errPropertyLength)
		return nil, 0
	case length == 0: // Fast path.
		r.b = r.b[n:]
		return nil, 0
	}
	r.b = r.b[n:]
	p = r.take(length)
	if seen, err = p.check(in); err != nil {
		r.fail(err)
	}
	return p, seen
}

// find decodes into prop the first property with that identifier and returns where it lies in p.
func (p Properties) find(id PropertyID, prop *Property) (start, n int, ok bool) {
	for start < len(p) {
		n, err := prop.decode(p[start:])
		if err != nil {
			return 0, 0, false
		}
		if prop.ID == id {
			return start, n, true
		}
		start += n
	}
	return 0, 0, false
}

// lift takes a property, which must be there, out of p and returns its value. What follows it moves
// down in place: the bytes p lies on are changed.
func (p *Properties) lift(id PropertyID) uint32 {
	var prop Property
	start, n, _ := p.find(id, &prop)
	b := *p
	copy(b[start:], b[start+n:])
	*p = b[:len(b)-n]
	return prop.Uint
}

// Uint returns the value of the first property with that identifier, which is one of the integers.
func (p Properties) Uint(id PropertyID) (uint32, bool) {
	var prop Property
	if _, _, ok := p.find(id, &prop); !ok {
		return 0, false
	}
	return prop.Uint, true
}

// Bytes returns the value of the first property with that identifier, which is a string or binary
// (of a User Property, its name). It is borrowed from p.
func (p Properties) Bytes(id PropertyID) ([]byte, bool) {
	var prop Property
	if _, _, ok := p.find(id, &prop); !ok {
		return nil, false
	}
	return prop.Bytes, true
}

// All yields the properties in the order of the packet, each borrowed from p.
func (p Properties) All() iter.Seq[Property] {
	return func(yield func(Property) bool) {
		var prop Property
		for b := []byte(p); len(b) > 0; {
			n, err := prop.decode(b)
			if err != nil || !yield(prop) {
				return
			}
			b = b[n:]
		}
	}
}

// AppendUint appends an integer property. It panics if id is none, or v does not fit it.
func AppendUint(dst Properties, id PropertyID, v uint32) Properties {
	switch typ := id.valueType(); {
	case typ == typeByte && v <= 0xFF:
		return append(dst, byte(id), byte(v))
	case typ == typeUint16 && v <= 0xFFFF:
		return append(dst, byte(id), byte(v>>8), byte(v))
	case typ == typeUint32:
		return binary.BigEndian.AppendUint32(append(dst, byte(id)), v)
	case typ == typeVarint && v <= MaxRemainingLength:
		return appendVarint(append(dst, byte(id)), int(v))
	default:
		panic("codec: AppendUint: not an integer property, or too large for it: " + id.String())
	}
}

// AppendBytes appends a string or binary property. It panics if id is none, or b is longer than
// [MaxFieldLength].
func AppendBytes[S ~string | ~[]byte](dst Properties, id PropertyID, b S) Properties {
	if typ := id.valueType(); typ != typeString && typ != typeBinary {
		panic("codec: AppendBytes: not a string or binary property: " + id.String())
	}
	return appendField(append(dst, byte(id)), b)
}

// AppendUserProperty appends a User Property. It panics if either is longer than [MaxFieldLength].
func AppendUserProperty(dst Properties, name, value string) Properties {
	return appendField(appendField(append(dst, byte(UserProperty)), name), value)
}

// propertiesSize returns the bytes that p takes with its Property Length, 0 in 3.x.
func propertiesSize(v Version, length int) int {
	if v != V5 {
		return 0
	}
	return varintSize(length) + length
}

// appendProperties appends p after its Property Length; nothing in 3.x.
func appendProperties(dst []byte, v Version, p Properties) []byte {
	if v != V5 {
		return dst
	}
	return append(appendVarint(dst, len(p)), p...)
}
