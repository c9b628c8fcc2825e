package runner

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/docker"
)

// asking is a cage whose questions a test asks.
type asking struct {
	*script
	says    io.Reader
	answers *io.PipeWriter
	closed  chan struct{}
}

func (a *asking) Exec(ctx context.Context, command string, args ...string) (stream, error) {
	if command != contract.CommandAsk {
		return a.script.Exec(ctx, command, args...)
	}
	return a, a.call(command)
}

func (a *asking) Read(p []byte) (int, error)  { return a.says.Read(p) }
func (a *asking) Write(p []byte) (int, error) { return a.answers.Write(p) }
func (a *asking) Wait(context.Context) error  { return nil }
func (a *asking) CloseWrite() error           { return a.answers.Close() }
func (a *asking) Close() error {
	select {
	case <-a.closed:
	default:
		close(a.closed)
	}
	if c, ok := a.says.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

func askRun(t *testing.T, says io.Reader, answers *io.PipeWriter, build func(context.Context, Endpoint) error) (*run, *asking) {
	t.Helper()
	s := new(script)
	r := scripted(t, s, build)
	a := &asking{script: s, says: says, answers: answers, closed: make(chan struct{})}
	start := r.backend.start
	r.backend.start = func(ctx context.Context, f docker.Facts, c docker.Config) (cage, error) {
		_, err := start(ctx, f, c)
		return a, err
	}
	return r, a
}

// Questions come and answers go while the build runs; its end is the end of both.
func TestQuestions(t *testing.T) {
	says, cage := io.Pipe()
	person, answers := io.Pipe()
	heard := make(chan struct{})
	r, a := askRun(t, says, answers, func(context.Context, Endpoint) error { <-heard; return nil })
	r.Ask = func(q contract.Question, reply func(contract.Answer) error) {
		if q.To != "a.example.com:443" {
			t.Errorf("heard %+v", q)
		}
		go func() {
			defer close(heard)
			if err := reply(contract.Answer{ID: q.ID, Allow: true}); err != nil {
				t.Error(err)
			}
		}()
	}
	got := make(chan string, 1)
	go func() {
		enc := json.NewEncoder(cage)
		_ = enc.Encode(contract.Question{})
		_ = enc.Encode(contract.Question{ID: 3, To: "a.example.com:443"})
		line, _ := bufio.NewReader(person).ReadString('\n')
		got <- line
	}()
	result := r.run(t.Context())
	if result.CageErr != nil || result.BuildErr != nil {
		t.Fatal(result.CageErr, result.BuildErr)
	}
	if line := <-got; line != `{"id":3,"allow":true}`+"\n" {
		t.Errorf("answered %q", line)
	}
	<-a.closed
}

// Without somebody who can be asked there is no build: what was to be asked
// would be refused without a word.
func TestQuestionsRefused(t *testing.T) {
	for _, says := range []string{"", `{"id":1}` + "\n", "OCI runtime exec failed: exec failed\n"} {
		_, answers := io.Pipe()
		r, a := askRun(t, strings.NewReader(says), answers, func(context.Context, Endpoint) error {
			return errors.New("it was built")
		})
		r.Ask = func(contract.Question, func(contract.Answer) error) { t.Error("heard a question") }
		result := r.run(t.Context())
		if result.CageErr == nil || !strings.Contains(result.CageErr.Error(), "waiting for questions: ") || result.Built {
			t.Errorf("%q: %v, built %v", says, result.CageErr, result.Built)
		}
		<-a.closed
	}
}
