package vertex

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Identity names what a vertex is, across sessions: the text of its
// instruction and, in the same way, all that it builds on. Contents of a build
// context are not part of it, nor are the names of stages. A digest would be
// new in every build, because it covers the session that files come from.
//
// A vertex whose ancestors are not all known has an identity of its own.
func (t *Table) Identity(v Vertex) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.builds[v.Build]
	if b == nil {
		b = new(build) // nothing is known of its ancestors
	}
	return b.identity(v, make(map[string]string))
}

func (b *build) identity(v Vertex, known map[string]string) string {
	if id, ok := known[v.Digest]; ok {
		return id
	}
	known[v.Digest] = v.Digest // no digest can be its own ancestor; nobody shall make us loop
	text := v.Name
	if name := ParseName(v.Name); name.Index > 0 {
		text = name.Text
	}
	h := sha256.New()
	h.Write([]byte(text))
	for input := range strings.FieldsSeq(v.Inputs) {
		id := input
		if ancestor, ok := b.vertices[input]; ok {
			id = b.identity(ancestor, known)
		}
		h.Write([]byte("\x00" + id))
	}
	known[v.Digest] = hex.EncodeToString(h.Sum(nil))
	return known[v.Digest]
}
