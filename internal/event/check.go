package event

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
)

// order is the grammar of a record stream: it knows what went by and what may
// follow. Encoder and Decoder share it, so that nothing is written that would
// not be read.
type order struct {
	seq  uint64
	done bool
	sum  End // totals of what went by
}

// check says whether r, with its number set, may stand here.
func (o *order) check(r *Record) error {
	if o.done {
		return errors.New("record after the end record")
	}
	if r.Seq != o.seq+1 {
		return fmt.Errorf("record number %d, want %d", r.Seq, o.seq+1)
	}
	kind, err := r.payload()
	if err != nil {
		return err
	}
	if r.Kind != kind {
		return fmt.Errorf("kind %q with a payload of kind %q", Clean(string(r.Kind)), kind)
	}
	if (kind == KindStart) != (o.seq == 0) {
		return fmt.Errorf("kind %q as record %d", kind, r.Seq)
	}
	return r.values()
}

// payload returns the kind of the one payload that is set.
func (r *Record) payload() (Kind, error) {
	var kind Kind
	n := 0
	for _, p := range []struct {
		kind Kind
		set  bool
	}{
		{KindStart, r.Start != nil}, {KindStep, r.Step != nil}, {KindDNS, r.DNS != nil}, {KindConn, r.Conn != nil},
		{KindDrop, r.Drop != nil}, {KindSource, r.Source != nil}, {KindEnd, r.End != nil},
	} {
		if p.set {
			kind = p.kind
			n++
		}
	}
	if n != 1 {
		return "", fmt.Errorf("%d payloads, want 1", n)
	}
	return kind, nil
}

// values checks what a reader relies on.
func (r *Record) values() error {
	switch {
	case r.Start != nil && r.Start.Version != Version:
		return fmt.Errorf("schema version %d, want %d", r.Start.Version, Version)
	case r.Conn != nil:
		if new(End).verdict(r.Conn.Verdict) == nil {
			return fmt.Errorf("verdict %q is not known", Clean(string(r.Conn.Verdict)))
		}
		if r.Conn.Up < 0 || r.Conn.Down < 0 {
			return errors.New("negative number of bytes")
		}
	case r.Source != nil && (r.Source.Down < 0 || r.Source.Up < 0):
		return errors.New("negative number of bytes")
	}
	if f := r.fold(); f != nil && f.Count < 0 {
		return errors.New("negative count")
	}
	return r.texts()
}

// texts checks that every text is printable and every address without a zone.
func (r *Record) texts() error {
	var err error
	text := func(s *string, _ bool) {
		if err == nil && !Printable(*s) {
			err = fmt.Errorf("text %q is not escaped", Clean(*s))
		}
	}
	r.walk(visitor{
		text: text,
		list: func(l *[]string) {
			for i := range *l {
				text(&(*l)[i], false)
			}
		},
		addr: func(a *netip.Addr) {
			if err == nil && a.Zone() != "" {
				err = errors.New("address with a zone")
			}
		},
	})
	return err
}

func (r *Record) fold() *Fold {
	switch {
	case r.DNS != nil:
		return &r.DNS.Fold
	case r.Conn != nil:
		return &r.Conn.Fold
	case r.Drop != nil:
		return &r.Drop.Fold
	}
	return nil
}

// Times is how many sightings a record stands for.
func (f Fold) Times() int64 { return max(1, f.Count) }

// accept takes r, which was checked, as the last record so far.
func (o *order) accept(r *Record) {
	o.seq, o.done = r.Seq, r.End != nil
	o.sum.Records++
	switch {
	case r.DNS != nil:
		o.sum.DNS = Add(o.sum.DNS, r.DNS.Times())
	case r.Drop != nil:
		o.sum.Drops = Add(o.sum.Drops, r.Drop.Times())
	case r.Conn != nil:
		n := r.Conn.Times()
		o.sum.Conns = Add(o.sum.Conns, n)
		if total := o.sum.verdict(r.Conn.Verdict); total != nil {
			*total = Add(*total, n)
		}
		o.sum.Up = Add(o.sum.Up, r.Conn.Up)
		o.sum.Down = Add(o.sum.Down, r.Conn.Down)
	}
}

// verdict is the total of connections with verdict v, nil for an unknown one.
func (e *End) verdict(v Verdict) *int64 {
	switch v {
	case Allowed:
		return &e.Allowed
	case Audited:
		return &e.Audited
	case Blocked:
		return &e.Blocked
	case Failed:
		return &e.Failed
	}
	return nil
}

// totals copies the counted totals into e.
func (o *order) totals(e *End) {
	reason, lost := e.Reason, e.Lost
	*e = o.sum
	e.Records++ // the end record itself
	e.Reason, e.Lost = reason, lost
}

// Add adds two counts that are not negative; it stays at the largest number
// instead of turning around, so that no forged count makes a total small.
func Add(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
