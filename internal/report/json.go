package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// JSON writes r as one indented JSON document in printable ASCII. It keeps
// every value in full. A second # in a row is written as an escape, so that no
// value is a workflow command (##[error], ##vso[) to a log reader.
func JSON(w io.Writer, r *Report) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("encoding the report: %w", err)
	}
	out := bytes.ReplaceAll(b.Bytes(), []byte("##"), []byte(`#\u0023`))
	out = bytes.ReplaceAll(out, []byte("→"), []byte(`\u2192`)) // of processes
	if _, err := w.Write(out); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}
