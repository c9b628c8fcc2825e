package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
)

// Encoder writes records as JSON lines, one Write per record. It numbers
// them, stamps them with its clock, names their kind, keeps the totals of the
// end record and cuts what is longer than MaxRecord. It refuses a sequence
// that a Decoder would refuse. After an error it writes nothing more: the
// record stays incomplete. It is not safe for concurrent use.
type Encoder struct {
	w     io.Writer
	now   func() time.Time
	order order
	err   error
}

// NewEncoder returns an Encoder that writes to w and asks now for the time.
func NewEncoder(w io.Writer, now func() time.Time) *Encoder {
	return &Encoder{w: w, now: now}
}

// Encode writes r, of which only the payload counts: number, time and kind are
// set here, and for an end record everything but Reason and Lost.
func (e *Encoder) Encode(r Record) error {
	if e.err == nil {
		e.err = e.encode(r)
	}
	return e.err
}

// Seq is the number of the last record that was written, 0 before the first.
func (e *Encoder) Seq() uint64 { return e.order.seq }

func (e *Encoder) encode(r Record) error {
	kind, err := r.payload()
	if err != nil {
		return fmt.Errorf("encoding record %d: %w", e.order.seq+1, err)
	}
	r = clone(r)
	r.Seq, r.Time, r.Kind = e.order.seq+1, e.now().UTC().Round(0), kind
	if r.End != nil {
		e.order.totals(r.End)
	}
	line, err := fit(&r)
	if err == nil {
		err = e.order.check(&r)
	}
	if err != nil {
		return fmt.Errorf("encoding record %d: %w", r.Seq, err)
	}
	if _, err := e.w.Write(line); err != nil {
		return fmt.Errorf("writing record %d: %w", r.Seq, err)
	}
	e.order.accept(&r)
	return nil
}

// minDecisive is the length that texts which decide keep in any case; a host
// name of 253 bytes fits.
const minDecisive = 300

// fit cleans r in place, cuts it until it fits and returns its line.
func fit(r *Record) ([]byte, error) {
	r.walk(cleaner(r))
	var line []byte
	for _, limit := range []int{MaxText, 512, 256, 128, 64, 16} {
		var err error
		if line, err = marshal(r); err != nil {
			return nil, err
		}
		if len(line) <= MaxRecord {
			return line, nil
		}
		r.Truncated = true
		r.walk(cutter(limit))
	}
	line, err := marshal(r)
	if err == nil && len(line) > MaxRecord {
		err = fmt.Errorf("%d bytes that can't be cut to %d", len(line), MaxRecord)
	}
	return line, err
}

func marshal(r *Record) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// cleaner also marks a record whose texts were cut before they came here.
func cleaner(r *Record) visitor {
	text := func(s *string, _ bool) {
		*s = Clean(*s)
		r.Truncated = r.Truncated || strings.Contains(*s, Mark)
	}
	return visitor{
		text: text,
		list: func(l *[]string) {
			for i := range *l {
				text(&(*l)[i], false)
			}
		},
		addr: func(a *netip.Addr) { *a = a.WithZone("") },
	}
}

// cutter shortens texts to limit bytes and lists to one entry for each 16 of them.
func cutter(limit int) visitor {
	text := func(s *string, decides bool) {
		if decides {
			*s = cut(*s, max(limit, minDecisive))
		} else {
			*s = cut(*s, limit)
		}
	}
	return visitor{
		text: text,
		list: func(l *[]string) {
			*l = (*l)[:min(len(*l), limit/16)]
			for i := range *l {
				text(&(*l)[i], false)
			}
		},
		addr: func(*netip.Addr) {},
	}
}
