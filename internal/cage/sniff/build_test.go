package sniff_test

import (
	"encoding/binary"
)

// Builders of hellos, byte by byte, so that tests can lie.

func prefix16(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func extension(typ uint16, data []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, typ), prefix16(data)...)
}

func entry(typ byte, name string) []byte {
	return append([]byte{typ}, prefix16([]byte(name))...)
}

func sni(name string) []byte { return extension(0, prefix16(entry(0, name))) }

func manyExtensions(n int) (b []byte) {
	for i := range n {
		b = append(b, extension(uint16(1000+i), nil)...)
	}
	return b
}

// hello is a handshake message with these extensions; nil means an empty block.
func hello(version uint16, extensions []byte) []byte {
	body := binary.BigEndian.AppendUint16(nil, version)
	body = append(body, make([]byte, 32)...)             // random
	body = append(body, 0)                               // session id
	body = append(body, prefix16([]byte{0x13, 0x01})...) // cipher suites
	body = append(body, 1, 0)                            // compression
	body = append(body, prefix16(extensions)...)
	return append([]byte{1, 0, byte(len(body) >> 8), byte(len(body))}, body...)
}

// records frames a message in records of at most size bytes.
func records(message []byte, size int) (wire []byte) {
	for len(message) > 0 {
		n := min(size, len(message))
		wire = append(wire, 22, 3, 1, byte(n>>8), byte(n))
		wire = append(wire, message[:n]...)
		message = message[n:]
	}
	return wire
}
