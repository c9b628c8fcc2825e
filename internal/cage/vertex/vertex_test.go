package vertex

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

func TestParseName(t *testing.T) {
	for in, want := range map[string]Name{
		"[2/3] RUN npm ci":                     {Index: 2, Total: 3, Text: "RUN npm ci"},
		"[deps  3/12] RUN npm ci":              {Stage: "deps", Index: 3, Total: 12, Text: "RUN npm ci"},
		"[linux/arm64 deps 3/5] RUN x":         {Platform: "linux/arm64", Stage: "deps", Index: 3, Total: 5, Text: "RUN x"},
		"[linux/amd64->arm64 2/2] RUN x":       {Platform: "linux/amd64->arm64", Index: 2, Total: 2, Text: "RUN x"},
		"[stage-1 2/3] ONBUILD RUN x":          {Stage: "stage-1", Index: 2, Total: 3, OnBuild: true, Text: "RUN x"},
		"[internal] load build context":        {Internal: true, Text: "load build context"},
		"[auth] library/node:pull token for x": {Internal: true, Text: "library/node:pull token for x"},
		"exporting to image":                   {Text: "exporting to image"},
		"[":                                    {Text: "["},
		"[] RUN x":                             {Text: "[] RUN x"},
		"[deps 5/3] RUN x":                     {Stage: "deps 5/3", Text: "RUN x"},
	} {
		if diff := cmp.Diff(want, ParseName(in)); diff != "" {
			t.Errorf("%q: %s", in, diff)
		}
	}
}

func TestRunCommand(t *testing.T) {
	for in, want := range map[string]string{
		"[2/3] RUN npm ci": "npm ci",
		"[2/3] RUN --mount=type=cache,target=/x --network=none npm ci --y": "npm ci --y",
		"[2/3] RUN --mount=type=cache":                                     "",
	} {
		if got, ok := ParseName(in).Run(); !ok || got != want {
			t.Errorf("%q: %q, %v", in, got, ok)
		}
	}
	if _, ok := ParseName("[2/3] COPY . .").Run(); ok {
		t.Error("COPY is not RUN")
	}
}

func TestReceiverLinksSpanToVertex(t *testing.T) {
	var table Table
	srv := httptest.NewServer(table.Receiver())
	defer srv.Close()
	id := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	body, err := proto.Marshal(&trace.TracesData{ResourceSpans: []*trace.ResourceSpans{{ScopeSpans: []*trace.ScopeSpans{{Spans: []*trace.Span{
		{SpanId: []byte{9, 9, 9, 9, 9, 9, 9, 9}},
		{SpanId: id, Attributes: []*common.KeyValue{{Key: "vertex", Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: "sha256:ab"}}}}},
	}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		digest string
		ok     bool
	}
	got := make(chan answer, 1)
	go func() {
		d, ok := table.AwaitSpan(context.Background(), SpanOf("00-0102030405060708090a0b0c0d0e0f10-0102030405060708-01"), time.Minute)
		got <- answer{d, ok}
	}()
	resp, err := http.Post(srv.URL+"/v1/traces", "application/x-protobuf", bytes.NewReader(body))
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %v", resp, err)
	}
	resp.Body.Close()
	if a := <-got; !a.ok || a.digest != "sha256:ab" {
		t.Fatalf("got %+v", a)
	}
	if _, ok := table.AwaitSpan(context.Background(), "0909090909090909", time.Millisecond); ok {
		t.Error("a span without a vertex must not be linked")
	}
	if len(table.waiting) != 0 {
		t.Errorf("waiters left: %v", table.waiting)
	}
}

func TestTableIsBounded(t *testing.T) {
	var table Table
	for i := range maxSpans + 10 {
		table.Span(fmt.Sprint(i), "d")
	}
	if len(table.spans) != maxSpans {
		t.Errorf("%d spans kept", len(table.spans))
	}
	for i := range maxBuilds + 10 {
		ref := fmt.Sprint(i)
		table.Observe(Vertex{Build: ref, Digest: "a", Started: time.Now()})
		if i > 0 {
			table.Done(ref)
		}
	}
	if len(table.builds) > maxBuilds {
		t.Errorf("%d builds kept", len(table.builds))
	}
	if r := table.Pending(); len(r) != 1 || r[0].Build != "0" {
		t.Error("a running build was forgotten")
	}
}

// Whoever speaks of builds that never begin, or asks about them, leaves nothing
// behind, and what was said of one that does begin holds.
func TestUnbegunBuilds(t *testing.T) {
	var table Table
	if !table.Imports("coming") {
		t.Fatal("no room for the first")
	}
	refused := 0
	for i := range maxEarly + 10 {
		ref := fmt.Sprint(i)
		table.Importing(ref)
		table.Identity(Vertex{Build: ref, Digest: "a"})
		table.pushes(ref, "a")
		table.Done(ref)
		if !table.Imports(ref) {
			refused++
		}
		table.Imports(ref) // again
	}
	if len(table.builds) > 0 || len(table.order) > 0 || len(table.early) > maxEarly || refused != 11 {
		t.Errorf("%d builds and %d early ones are kept, %d refused", len(table.builds), len(table.early), refused)
	}
	table.Begin("coming")
	table.Begin("plain")
	table.Begin("late")
	if !table.Imports("late") {
		t.Error("a build that goes on has to wait for room")
	}
	if !table.Importing("coming") || table.Importing("plain") || !table.Importing("late") || !table.Importing("unknown") {
		t.Error("who imports is not known")
	}
	for _, ref := range []string{"coming", "plain", "late"} {
		table.Done(ref)
	}
	table.Imports("the last")
	table.early[0].when = time.Now().Add(-2 * earlyTime)
	if !table.Imports("next") || table.Imports("one more") {
		t.Error("room that nobody came for is not given again, or twice")
	}
	if going := table.Going(); len(going) > 0 {
		t.Errorf("%v go on", going)
	}
}

func TestIdentity(t *testing.T) {
	graph := func(session, stage, base, run string) (*Table, Vertex) {
		var table Table
		observe := func(digest, name string, inputs ...string) Vertex {
			v := Vertex{Build: "b", Digest: session + digest, Name: name}
			for _, in := range inputs {
				v.Inputs += session + in + " "
			}
			table.Observe(v)
			return v
		}
		observe("ctx", "[internal] load build context")
		observe("from", "["+stage+" 1/3] FROM "+base)
		observe("copy", "["+stage+" 2/3] COPY . .", "from", "ctx")
		return &table, observe("run", "["+stage+" 3/3] RUN "+run, "copy")
	}
	table, v := graph("s1", "deps", "node:22@sha256:1", "npm ci")
	id := table.Identity(v)
	for name, tc := range map[string]struct {
		session, stage, base, run string
		same                      bool
	}{
		"session": {"s2", "deps", "node:22@sha256:1", "npm ci", true},
		"stage":   {"s2", "other", "node:22@sha256:1", "npm ci", true},
		"base":    {"s2", "deps", "node:22@sha256:2", "npm ci", false},
		"command": {"s2", "deps", "node:22@sha256:1", "npm ci -f", false},
	} {
		table, v := graph(tc.session, tc.stage, tc.base, tc.run)
		if got := table.Identity(v); got == id != tc.same {
			t.Errorf("another %s: same %v, want %v", name, got == id, tc.same)
		}
	}
	orphan := func(session string) string {
		var table Table
		return table.Identity(Vertex{Build: "b", Digest: session, Name: "[2/2] RUN npm ci", Inputs: session + "in"})
	}
	if orphan("a") == orphan("b") {
		t.Error("vertices with unknown ancestors have one identity")
	}
	loop := Vertex{Build: "b", Digest: "d", Inputs: "d"}
	table.Observe(loop)
	table.Identity(loop)
}

func TestSecretEnv(t *testing.T) {
	for in, want := range map[string]string{
		"[2/3] RUN --mount=type=secret,id=tok,env=TOKEN npm ci":                                    "TOKEN",
		"[2/3] RUN --network=none --mount=id=a,env=A,type=SECRET --mount=type=secret,env=B,id=b x": "A B",
		"[2/3] RUN --mount=type=secret,id=tok npm ci":                                              "",
		"[2/3] RUN --mount=type=cache,target=/x,env=Y npm ci":                                      "",
		"[2/3] RUN npm --mount=type=secret,env=TOKEN":                                              "",
		"[2/3] RUN --mount=type=secret,env=TOKEN":                                                  "TOKEN",
		"[2/3] COPY --mount=type=secret,env=TOKEN":                                                 "",
	} {
		if got := strings.Join(ParseName(in).SecretEnv(), " "); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}
