package codec

// An Auth is an AUTH packet, which exists in 5.0 only.
type Auth struct {
	Code       ReasonCode
	Properties Properties // borrowed from the body
}

// ParseAuth parses the body of an AUTH. An empty body means Success, which only a server may send;
// with the other codes the Authentication Method is mandatory (U5-3.15.2.2.2).
func ParseAuth(body []byte, from Side) (Auth, error) {
	r := reader{b: body}
	var a Auth
	if len(body) > 0 {
		a.Code = ReasonCode(r.byte())
	}
	if !a.Code.allowed(au, from) { // [MQTT-3.15.2-1]
		return a, errReasonCode
	}
	if len(body) == 0 {
		return a, nil
	}
	var seen propertySet
	a.Properties, seen = r.properties(V5, inAuth)
	if err := r.end(); err != nil {
		return a, err
	}
	if !seen.has(AuthenticationMethod) && (a.Code != Success || seen.has(AuthenticationData)) {
		return a, errAuthMethod
	}
	return a, nil
}

// Append appends the packet.
func (a *Auth) Append(dst []byte) []byte {
	if a.Code == Success && len(a.Properties) == 0 {
		return append(dst, byte(AUTH)<<4, 0)
	}
	dst = appendHeader(dst, AUTH, 0, 1+propertiesSize(V5, len(a.Properties)))
	return appendProperties(append(dst, byte(a.Code)), V5, a.Properties)
}
