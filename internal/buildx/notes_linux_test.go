package buildx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/console"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// fakeStream is BuildKit's side of a status stream.
type fakeStream struct {
	grpc.ClientStream
	messages chan *controlapi.StatusResponse // closed: the end
}

func (f *fakeStream) RecvMsg(into any) error {
	m, ok := <-f.messages
	if !ok {
		return io.EOF
	}
	move(into.(*controlapi.StatusResponse), m)
	return nil
}

// open is a status stream of notes as buildx's client gets it.
func open(t *testing.T, n *Notes) (*fakeStream, grpc.ClientStream) {
	t.Helper()
	fake := &fakeStream{messages: make(chan *controlapi.StatusResponse)}
	opener := func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
		return fake, nil
	}
	stream, err := n.intercept(t.Context(), nil, nil, controlapi.Control_Status_FullMethodName, opener)
	if err != nil {
		t.Fatal(err)
	}
	return fake, stream
}

func vertex(name string, started, completed time.Time) *controlapi.StatusResponse {
	v := &controlapi.Vertex{Digest: "sha256:" + name, Name: name, Started: timestamppb.New(started)}
	if !completed.IsZero() {
		v.Completed = timestamppb.New(completed)
	}
	return &controlapi.StatusResponse{Vertexes: []*controlapi.Vertex{v}}
}

func receive(t *testing.T, s grpc.ClientStream) *controlapi.StatusResponse {
	t.Helper()
	m := new(controlapi.StatusResponse)
	if err := s.RecvMsg(m); err != nil {
		t.Fatal(err)
	}
	return m
}

// Notes wait for BuildKit's clock, come between its messages, and end with it.
func TestNotes(t *testing.T) {
	notes := new(Notes)
	notes.Show(Note{ID: "a", Text: "one"})
	fake, stream := open(t, notes)
	past := time.Now().Add(-24 * time.Hour) // another clock than ours
	go func() { fake.messages <- vertex("real", past, time.Time{}) }()
	if m := receive(t, stream); m.Vertexes[0].Name != "real" {
		t.Fatalf("the first message is %v", m)
	}
	m := receive(t, stream)
	if v := m.Vertexes[0]; v.Name != "one" || v.Completed != nil || v.Started.AsTime().Sub(past) > time.Hour {
		t.Errorf("the note is %v", v)
	}
	begun := m.Vertexes[0].Started.AsTime()
	notes.Show(Note{ID: "a", Text: "two", Below: []string{"more"}})
	m = receive(t, stream)
	if v := m.Vertexes[0]; v.Name != "two" || !v.Started.AsTime().Equal(begun) || len(m.Statuses) != 1 || m.Statuses[0].ID != "more" {
		t.Errorf("the changed note is %v", m)
	}
	notes.Ending = func() { notes.Show(Note{ID: "a", Text: "last", Below: []string{"more"}}) }
	close(fake.messages)
	m = receive(t, stream)
	if v := m.Vertexes[0]; v.Name != "last" || v.Completed == nil || m.Statuses[0].Completed == nil {
		t.Errorf("the last message is %v", m)
	}
	for range 2 {
		if err := stream.RecvMsg(m); !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %v", err)
		}
	}
}

// Of several streams, the last one ends the notes.
func TestNotesStreams(t *testing.T) {
	notes := new(Notes)
	first, one := open(t, notes)
	second, two := open(t, notes)
	go func() { first.messages <- vertex("real", time.Now(), time.Time{}) }()
	receive(t, one)
	notes.Show(Note{ID: "a", Text: "text"})
	if m := receive(t, one); m.Vertexes[0].Name != "text" {
		t.Errorf("got %v", m)
	}
	close(first.messages)
	if err := one.RecvMsg(new(controlapi.StatusResponse)); !errors.Is(err, io.EOF) {
		t.Errorf("the first stream ends with %v", err)
	}
	go func() { second.messages <- vertex("other", time.Now(), time.Time{}); close(second.messages) }()
	receive(t, two)
	if m := receive(t, two); m.Vertexes[0].Name != "text" || m.Vertexes[0].Completed == nil {
		t.Errorf("the second stream ends with %v", m)
	}
}

// What is on the screen is drawn by buildx alone, so nothing is torn: also on a
// narrow terminal, and with a note that is too long for it.
func TestNotesOnTerminal(t *testing.T) {
	for _, width := range []int{40, 80, 200} {
		t.Run(fmt.Sprint(width), func(t *testing.T) { terminalTest(t, width) })
	}
}

func terminalTest(t *testing.T, width int) {
	master, path, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := console.ConsoleFromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := slave.Resize(console.WinSize{Height: 20, Width: uint16(width)}); err != nil {
		t.Fatal(err)
	}
	display, err := progressui.NewDisplay(slave, progressui.TtyMode)
	if err != nil {
		t.Fatal(err)
	}
	drawn := make(chan string)
	go func() {
		raw, _ := io.ReadAll(master) // until the other side is closed, which is an error here
		drawn <- string(raw)
	}()
	notes := new(Notes)
	fake, stream := open(t, notes)
	statuses := make(chan *client.SolveStatus)
	shown := make(chan error)
	go func() {
		_, err := display.UpdateFrom(t.Context(), statuses)
		shown <- err
	}()
	begun := time.Now()
	go func() { fake.messages <- vertex("[1/2] RUN first", begun, time.Time{}) }()
	statuses <- client.NewSolveStatus(receive(t, stream))
	for i := range 5 {
		notes.Show(Note{ID: "a", Text: fmt.Sprintf("[cage] %d destinations, refused last: %s.example.com:443", i, strings.Repeat("x", 100))})
		statuses <- client.NewSolveStatus(receive(t, stream))
	}
	go func() { fake.messages <- vertex("[1/2] RUN first", begun, time.Now()); close(fake.messages) }()
	for {
		m := new(controlapi.StatusResponse)
		if stream.RecvMsg(m) != nil {
			break
		}
		statuses <- client.NewSolveStatus(m)
	}
	close(statuses)
	if err := <-shown; err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	raw := <-drawn
	lines := screen(t, raw)
	seen := strings.Join(lines, "\n")
	if !strings.Contains(seen, " => [cage] 4 destinations") || strings.Count(seen, "[cage]") != 1 || !strings.Contains(seen, "(2/2) FINISHED") || len(lines) != 3 {
		t.Errorf("on the screen, of %q:\n%s", raw, seen)
	}
}

// sequence is what moves the cursor or the colours; the rest is text.
var sequence = regexp.MustCompile("\x1b\\[(\\??[0-9;]*)([A-Za-z])|[^\x1b]")

// screen is what a terminal shows after raw, without its empty lines.
func screen(t *testing.T, raw string) (lines []string) {
	t.Helper()
	var rows [50][]byte
	row, column := 0, 0
	for _, m := range sequence.FindAllStringSubmatch(raw, -1) {
		n, _ := strconv.Atoi(m[1])
		switch {
		case m[0] == "\r" || m[2] == "G":
			column = 0
		case m[0] == "\n":
			row++
		case m[2] == "A":
			row = max(0, row-n)
		case m[2] == "B":
			row += n
		case m[2] == "m" || m[2] == "l" || m[2] == "h":
		case m[2] != "":
			t.Fatalf("a sequence that the test does not know: %q", m[0])
		default:
			for len(rows[row]) <= column {
				rows[row] = append(rows[row], ' ')
			}
			rows[row][column] = m[0][0]
			column++
		}
	}
	for _, r := range rows {
		if line := strings.TrimRight(string(r), " "); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}
