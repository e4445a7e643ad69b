package main

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// appendJSON appends text, which is JSON, as Mosquitto's clients print it: without blanks, or pretty, with members on lines
// of their own, a tab in front of each value, and arrays on one line. Numbers stay as they are, or they would lose digits.
func appendJSON(dst, text []byte, pretty bool) []byte {
	p := jsonPrinter{d: json.NewDecoder(bytes.NewReader(text)), pretty: pretty}
	p.d.UseNumber()
	return p.value(dst, 0)
}

type jsonPrinter struct {
	d      *json.Decoder
	pretty bool
}

func (p jsonPrinter) value(dst []byte, depth int) []byte {
	token, _ := p.d.Token() // it is JSON
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return p.object(dst, depth)
		}
		return p.array(dst, depth)
	case string:
		return appendText(dst, t)
	case json.Number:
		return append(dst, t...)
	case bool:
		return strconv.AppendBool(dst, t)
	default:
		return append(dst, "null"...)
	}
}

func (p jsonPrinter) array(dst []byte, depth int) []byte {
	dst = append(dst, '[')
	for i := 0; p.d.More(); i++ {
		if i > 0 {
			dst = append(dst, ',')
			if p.pretty {
				dst = append(dst, ' ')
			}
		}
		dst = p.value(dst, depth+1)
	}
	_, _ = p.d.Token()
	return append(dst, ']')
}

func (p jsonPrinter) object(dst []byte, depth int) []byte {
	line := func(depth int) {
		if p.pretty {
			dst = append(append(dst, '\n'), bytes.Repeat([]byte{'\t'}, depth)...)
		}
	}
	dst = append(dst, '{')
	for i := 0; p.d.More(); i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		line(depth + 1)
		name, _ := p.d.Token()
		dst = append(appendText(dst, name.(string)), ':')
		if p.pretty {
			dst = append(dst, '\t')
		}
		dst = p.value(dst, depth+1)
	}
	_, _ = p.d.Token()
	line(depth)
	return append(dst, '}')
}

// appendText appends s as JSON has it, with nothing escaped that need not be.
func appendText(dst []byte, s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // of text: it cannot fail
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}
