package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wheelmq/wheelmq/engine/client"
)

// A messageFormat is what -F says, taken apart.
type messageFormat []formatPart

// A formatPart is text, or one % of -F.
type formatPart struct {
	text             string // of a part without a letter
	letter           byte
	left, zero       bool
	width, precision int // precision -1: none
}

const formatLetters = "tpPqrlmxXjJUIACDEFRSd"

// parseFormat reads -F: % with a flag, a width and a precision in front of a
// letter, @ with a letter of strftime, and \ with n, t, e, a, r, 0.
func parseFormat(s string) (messageFormat, error) {
	var f messageFormat
	text := ""
	flush := func() {
		if text != "" {
			f = append(f, formatPart{text: text})
			text = ""
		}
	}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			at := strings.IndexByte(`nterav0\`, s[i])
			if at < 0 {
				return nil, fmt.Errorf(`-F: \%c: want one of \n \t \e \r \a \v \0 \\`, s[i])
			}
			text += string("\n\t\x1b\r\a\v\x00\\"[at])
		case s[i] == '@' && i+1 < len(s):
			i++
			if s[i] == '@' {
				text += "@"
				continue
			}
			flush()
			f = append(f, formatPart{letter: '@', text: string(s[i])})
			if _, err := strftime(s[i], time.Time{}); err != nil {
				return nil, err
			}
		case s[i] == '%' && i+1 < len(s):
			p := formatPart{precision: -1}
			for i++; i < len(s) && (s[i] == '-' || s[i] == '0'); i++ {
				p.left = p.left || s[i] == '-'
				p.zero = p.zero || s[i] == '0'
			}
			for ; i < len(s) && s[i] >= '0' && s[i] <= '9' && p.width < 10_000; i++ {
				p.width = p.width*10 + int(s[i]-'0')
			}
			if i < len(s) && s[i] == '.' {
				p.precision = 0
				for i++; i < len(s) && s[i] >= '0' && s[i] <= '9' && p.precision < 1<<30; i++ {
					p.precision = p.precision*10 + int(s[i]-'0')
				}
			}
			switch {
			case i >= len(s):
				return nil, errors.New("-F: a letter is missing behind the last %")
			case s[i] == '%':
				text += "%"
				continue
			case strings.IndexByte(formatLetters, s[i]) < 0:
				return nil, fmt.Errorf("-F: %%%c: want one of %s", s[i], formatLetters)
			}
			p.letter = s[i]
			flush()
			f = append(f, p)
		case s[i] == '%':
			return nil, errors.New("-F: a letter is missing behind the last %")
		default:
			text += s[i : i+1]
		}
	}
	flush()
	return f, nil
}

// append writes m as f says.
func (f messageFormat) append(dst []byte, m *client.Message, now time.Time, pretty bool) []byte {
	for i := range f {
		p := &f[i]
		if p.letter == 0 {
			dst = append(dst, p.text...)
			continue
		}
		if p.letter == '@' {
			s, _ := strftime(p.text[0], now)
			dst = append(dst, s...)
			continue
		}
		dst = p.pad(dst, p.value(m, now, pretty))
	}
	return dst
}

func (p *formatPart) pad(dst, v []byte) []byte {
	most := p.precision
	switch p.letter {
	case 'p':
		most = -1 // a payload is never cut
	case 'x', 'X':
		most *= 2 // bytes, of two digits
	case 'q', 'r', 'd':
		return append(dst, v...) // one digit, as it is
	}
	if most >= 0 && len(v) > most {
		v = v[:most]
	}
	fill := max(0, p.width-len(v))
	space := byte(' ')
	if p.zero && strings.IndexByte("lmxX", p.letter) >= 0 {
		space = '0'
	}
	if !p.left {
		dst = append(dst, bytes.Repeat([]byte{space}, fill)...)
	}
	dst = append(dst, v...)
	if p.left {
		dst = append(dst, bytes.Repeat([]byte{' '}, fill)...)
	}
	return dst
}

func (p *formatPart) value(m *client.Message, now time.Time, pretty bool) []byte {
	switch p.letter {
	case 't':
		return []byte(m.Topic)
	case 'p':
		return m.Payload
	case 'P':
		var list []string
		for _, u := range m.Properties {
			list = append(list, u.Name+":"+u.Value)
		}
		return []byte(strings.Join(list, " "))
	case 'q':
		return strconv.AppendInt(nil, int64(m.QoS), 10)
	case 'r':
		return flagText(m.Retain)
	case 'd':
		return flagText(m.Dup)
	case 'l':
		return strconv.AppendInt(nil, int64(len(m.Payload)), 10)
	case 'm':
		return strconv.AppendInt(nil, int64(m.ID), 10)
	case 'x':
		return []byte(hex.EncodeToString(m.Payload))
	case 'X':
		return []byte(strings.ToUpper(hex.EncodeToString(m.Payload)))
	case 'j':
		return messageJSON(m, now, false, pretty)
	case 'J':
		return messageJSON(m, now, true, pretty)
	case 'U':
		return fmt.Appendf(nil, "%d.%09d", now.Unix(), now.Nanosecond())
	case 'I':
		return []byte(now.Format("2006-01-02T15:04:05-0700"))
	case 'C':
		return []byte(m.ContentType)
	case 'D':
		return m.Correlation
	case 'E':
		if m.Expiry > 0 {
			return strconv.AppendInt(nil, int64(m.Expiry/time.Second), 10)
		}
	case 'F':
		if m.Text {
			return []byte("1")
		}
	case 'R':
		return []byte(m.ResponseTopic)
	case 'S':
		var list []string
		for _, id := range m.SubscriptionIDs {
			list = append(list, strconv.FormatUint(uint64(id), 10))
		}
		return []byte(strings.Join(list, " "))
	}
	return nil // A: the alias is the library's
}

func flagText(on bool) []byte {
	if on {
		return []byte("1")
	}
	return []byte("0")
}

// messageJSON is %j, or %J with a payload that is JSON itself; without one, %J is nothing.
func messageJSON(m *client.Message, now time.Time, nested, pretty bool) []byte {
	if nested && !isJSON(m) {
		return nil
	}
	b := []byte{'{'}
	add := func(name string, value []byte) {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(appendText(b, name), ':'), value...)
	}
	number := func(n int) []byte { return strconv.AppendInt(nil, int64(n), 10) }
	add("tst", appendText(nil, now.Format("2006-01-02T15:04:05.000000Z-0700")))
	add("topic", appendText(nil, m.Topic))
	add("qos", number(int(m.QoS)))
	add("retain", flagText(m.Retain))
	add("payloadlen", number(len(m.Payload)))
	if m.QoS > 0 {
		add("mid", number(int(m.ID)))
	}
	if p := propertiesJSON(m); p != nil {
		add("properties", p)
	}
	switch {
	case len(m.Payload) == 0:
		add("payload", []byte("null"))
	case nested:
		add("payload", m.Payload)
	default:
		add("payload", appendText(nil, string(m.Payload)))
	}
	b = append(b, '}')
	if !nested && !pretty {
		return b
	}
	return appendJSON(nil, b, pretty)
}

// isJSON reports whether %J has the payload as a value.
func isJSON(m *client.Message) bool { return len(m.Payload) == 0 || json.Valid(m.Payload) }

// needsJSON reports whether f has a %J.
func (f messageFormat) needsJSON() bool {
	return slices.ContainsFunc(f, func(p formatPart) bool { return p.letter == 'J' })
}

func propertiesJSON(m *client.Message) json.RawMessage {
	var parts []string
	text := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	if len(m.Properties) > 0 {
		var users []string
		for _, u := range m.Properties {
			users = append(users, text(u.Name)+":"+text(u.Value))
		}
		parts = append(parts, `"user-properties":{`+strings.Join(users, ",")+"}")
	}
	if m.ContentType != "" {
		parts = append(parts, `"content-type":`+text(m.ContentType))
	}
	if m.ResponseTopic != "" {
		parts = append(parts, `"response-topic":`+text(m.ResponseTopic))
	}
	if len(m.Correlation) > 0 {
		parts = append(parts, `"correlation-data":`+text(string(m.Correlation)))
	}
	if m.Text {
		parts = append(parts, `"payload-format-indicator":1`)
	}
	if m.Expiry > 0 {
		parts = append(parts, `"message-expiry-interval":`+strconv.FormatInt(int64(m.Expiry/time.Second), 10))
	}
	if len(parts) == 0 {
		return nil
	}
	return json.RawMessage("{" + strings.Join(parts, ",") + "}")
}

// strftimeLayouts are those letters of strftime(3) that a layout of Go's says.
var strftimeLayouts = map[byte]string{
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'c': "Mon Jan _2 15:04:05 2006", 'd': "02", 'D': "01/02/06", 'e': "_2", 'F': "2006-01-02",
	'h': "Jan", 'H': "15", 'I': "03", 'j': "002", 'm': "01", 'M': "04", 'p': "PM", 'P': "pm", 'r': "03:04:05 PM", 'R': "15:04", 'S': "05", 'T': "15:04:05",
	'x': "01/02/06", 'X': "15:04:05", 'y': "06", 'Y': "2006", 'z': "-0700", 'Z': "MST",
}

func strftime(letter byte, t time.Time) (string, error) {
	switch letter {
	case 's':
		return strconv.FormatInt(t.Unix(), 10), nil
	case 'N':
		return fmt.Sprintf("%09d", t.Nanosecond()), nil
	case 'u':
		return strconv.Itoa((int(t.Weekday())+6)%7 + 1), nil
	case 'w':
		return strconv.Itoa(int(t.Weekday())), nil
	case 'C':
		return fmt.Sprintf("%02d", t.Year()/100), nil
	case 'n':
		return "\n", nil
	case 't':
		return "\t", nil
	case 'k':
		return fmt.Sprintf("%2d", t.Hour()), nil
	case 'l':
		return fmt.Sprintf("%2d", (t.Hour()+11)%12+1), nil
	}
	layout, ok := strftimeLayouts[letter]
	if !ok {
		return "", fmt.Errorf("-F: @%c is no letter of strftime that is known here", letter)
	}
	return t.Format(layout), nil
}
