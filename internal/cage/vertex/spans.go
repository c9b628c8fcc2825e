package vertex

import (
	"encoding/hex"
	"io"
	"net/http"
	"strings"

	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// maxExport is the largest batch of spans that is read.
const maxExport = 16 << 20

// Receiver is an OTLP/HTTP trace receiver for buildkitd
// (opentelemetry-proto, "otlphttp request"). It keeps one thing of a span: its
// id and the attribute "vertex".
func (t *Table) Receiver() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxExport))
		if err != nil {
			http.Error(w, "reading spans", http.StatusBadRequest)
			return
		}
		// ExportTraceServiceRequest and TracesData have the same encoding.
		var data trace.TracesData
		if err := proto.Unmarshal(body, &data); err != nil {
			http.Error(w, "decoding spans", http.StatusBadRequest)
			return
		}
		t.spansOf(&data)
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.WriteHeader(http.StatusOK)
	})
}

func (t *Table) spansOf(data *trace.TracesData) {
	for _, resource := range data.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				for _, a := range span.Attributes {
					if a.Key == "vertex" {
						t.Span(hex.EncodeToString(span.SpanId), a.Value.GetStringValue())
					}
				}
			}
		}
	}
}

// TraceOf returns the trace id of a W3C traceparent header value, or "".
func TraceOf(traceparent string) string {
	parts := strings.Split(traceparent, "-")
	if len(parts) != 4 || len(parts[1]) != 32 {
		return ""
	}
	return parts[1]
}

// SpanOf returns the span id of a W3C traceparent header value, or "".
func SpanOf(traceparent string) string {
	parts := strings.Split(traceparent, "-")
	if len(parts) != 4 || len(parts[2]) != 16 {
		return ""
	}
	return parts[2]
}
