package event

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ErrIncomplete says that the records stop before the end record: the cage was
// killed or the stream was cut. Nothing may be concluded from their absence.
var ErrIncomplete = errors.New("the record stops before its end record")

// Error says that a line is no record, or not one that may stand there.
type Error struct {
	Line int // from 1
	Msg  string
}

func (e *Error) Error() string { return fmt.Sprintf("record line %d: %s", e.Line, e.Msg) }

// Decoder reads what an Encoder wrote and believes nothing: numbers without
// gaps from 1, one start record at the start, one end record at the end whose
// totals are those of the records, one payload of the named kind in each, all
// texts escaped. Fields that it doesn't know are passed over, because the
// schema grows.
type Decoder struct {
	// RunID, when set, is the run that the records must belong to.
	RunID string

	r     *bufio.Reader
	line  int
	order order
	err   error
}

// NewDecoder returns a Decoder that reads from r.
func NewDecoder(r io.Reader) *Decoder {
	return &Decoder{r: bufio.NewReaderSize(r, MaxRecord)}
}

// Next returns the next record. Once the end record was returned and nothing
// follows it, the error is io.EOF: the record is complete, and only then.
// Otherwise it is ErrIncomplete, an *Error or the reader's. Errors stay.
func (d *Decoder) Next() (*Record, error) {
	if d.err != nil {
		return nil, d.err
	}
	r, err := d.next()
	if err != nil {
		d.err = err
		return nil, err
	}
	return r, nil
}

func (d *Decoder) next() (*Record, error) {
	line, err := d.r.ReadSlice('\n')
	d.line++
	switch {
	case errors.Is(err, bufio.ErrBufferFull) || len(line) > MaxRecord:
		return nil, d.errorf("longer than %d bytes", MaxRecord)
	case errors.Is(err, io.EOF) && d.order.done && len(line) == 0:
		return nil, io.EOF
	case errors.Is(err, io.EOF) && d.order.done:
		return nil, d.errorf("record after the end record")
	case errors.Is(err, io.EOF):
		return nil, ErrIncomplete
	case err != nil:
		return nil, fmt.Errorf("reading record line %d: %w", d.line, err)
	}
	var r Record
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, d.errorf("not a record: %s", Clean(err.Error()))
	}
	return &r, d.check(&r)
}

func (d *Decoder) check(r *Record) error {
	if r.End != nil {
		want := *r.End
		if d.order.totals(&want); want != *r.End {
			return d.errorf("the end record's totals are not those of the records")
		}
	}
	if err := d.order.check(r); err != nil {
		return d.errorf("%s", err)
	}
	d.order.accept(r)
	if s := r.Start; s != nil && d.RunID != "" && s.RunID != d.RunID {
		return d.errorf("record of run %q, want %q", EscapeMax(s.RunID, 64), d.RunID)
	}
	return nil
}

func (d *Decoder) errorf(format string, args ...any) error {
	return &Error{Line: d.line, Msg: fmt.Sprintf(format, args...)}
}

// ReadAll reads all records. With an error it returns those before it; the
// error is nil only for a complete record.
func ReadAll(r io.Reader) ([]Record, error) {
	d := NewDecoder(r)
	var records []Record
	for {
		rec, err := d.Next()
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return records, err
		}
		records = append(records, *rec)
	}
}
