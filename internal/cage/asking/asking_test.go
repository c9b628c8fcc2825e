package asking

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/policy"
)

// person is who listens to a broker.
type person struct {
	*testing.T
	broker    *Broker
	answers   *json.Encoder
	questions *json.Decoder
	hangUp    func()
	served    chan error
}

func listen(t *testing.T, b *Broker) *person {
	t.Helper()
	in, answers := io.Pipe()
	questions, out := io.Pipe()
	p := &person{T: t, broker: b, answers: json.NewEncoder(answers), questions: json.NewDecoder(questions), served: make(chan error, 1)}
	p.hangUp = func() { answers.Close() }
	go func() { p.served <- b.Serve(t.Context(), in, out); out.Close() }()
	if q := p.next(); q.ID != 0 {
		t.Fatalf("begins with %+v", q)
	}
	t.Cleanup(func() { answers.Close(); questions.Close() })
	return p
}

func (p *person) next() (q contract.Question) {
	p.Helper()
	if err := p.questions.Decode(&q); err != nil {
		p.Fatal(err)
	}
	return q
}

func (p *person) say(id int, allow bool) {
	p.Helper()
	if err := p.answers.Encode(contract.Answer{ID: id, Allow: allow}); err != nil {
		p.Fatal(err)
	}
}

func host(name string) policy.Target {
	return policy.Target{Protocol: policy.TLS, Name: name, Port: 443}
}

func about(to policy.Target) func() contract.Question {
	return func() contract.Question { return contract.Question{To: to.String()} }
}

// ask asks in the background.
func ask(ctx context.Context, b *Broker, step, name string) <-chan Verdict {
	verdict := make(chan Verdict, 1)
	go func() { verdict <- b.Ask(ctx, step, host(name), about(host(name))) }()
	return verdict
}

// One question for all that ask the same, and its answer for who comes later.
func TestAnswer(t *testing.T) {
	for _, want := range []Verdict{Allowed, Denied} {
		b := new(Broker)
		p := listen(t, b)
		first := ask(t.Context(), b, "s1", "a.example.com")
		q := p.next()
		second := ask(t.Context(), b, "s1", "a.example.com")
		p.say(q.ID+7, true) // nobody asked that
		p.say(q.ID, want == Allowed)
		p.say(q.ID, want != Allowed) // the first answer counts
		for _, got := range []Verdict{<-first, <-second, b.Ask(t.Context(), "s1", host("a.example.com"), nil)} {
			if got != want || q.To != "a.example.com:443" {
				t.Errorf("%+v: %v, want %v", q, got, want)
			}
		}
		// Neither for another destination, nor for another step.
		ask(t.Context(), b, "s1", "b.example.com")
		if q := p.next(); q.To != "b.example.com:443" || q.Over {
			t.Errorf("got %+v", q)
		}
		ask(t.Context(), b, "s2", "a.example.com")
		if q := p.next(); q.To != "a.example.com:443" || q.Over {
			t.Errorf("got %+v", q)
		}
	}
}

func TestUnasked(t *testing.T) {
	if got := (*Broker)(nil).Ask(t.Context(), "s1", host("a.example.com"), nil); got != Unasked {
		t.Errorf("no broker: %v", got)
	}
	if got := new(Broker).Ask(t.Context(), "s1", host("a.example.com"), nil); got != Unasked {
		t.Errorf("nobody listens: %v", got)
	}
}

func TestNoAnswer(t *testing.T) {
	b := &Broker{Patience: time.Millisecond}
	p := listen(t, b)
	verdict := ask(t.Context(), b, "s1", "a.example.com")
	q := p.next()
	if over := p.next(); over.ID != q.ID || !over.Over {
		t.Errorf("got %+v, want the end of %+v", over, q)
	}
	p.say(q.ID, true) // too late
	if got := <-verdict; got != Denied {
		t.Errorf("%v, want denied", got)
	}
	if got := b.Ask(t.Context(), "s1", host("a.example.com"), nil); got != Denied {
		t.Errorf("asked again: %v, want denied", got)
	}
}

// Whatever ends the listening denies what is open, and for good.
func TestGone(t *testing.T) {
	for name, end := range map[string]func(*person){
		"end of input": func(p *person) { p.hangUp() },
		"no answer":    func(p *person) { _ = p.answers.Encode("yes") },
	} {
		b := new(Broker)
		p := listen(t, b)
		verdict := ask(t.Context(), b, "s1", "a.example.com")
		p.next()
		end(p)
		if got := <-verdict; got != Denied {
			t.Errorf("%s: %v, want denied", name, got)
		}
		if err := <-p.served; (err != nil) != (name == "no answer") {
			t.Errorf("%s: served %v", name, err)
		}
		if got := b.Ask(t.Context(), "s1", host("a.example.com"), nil); got != Unasked {
			t.Errorf("%s: later %v, want unasked", name, got)
		}
		if err := b.Serve(t.Context(), nil, nil); !errors.Is(err, ErrTaken) {
			t.Errorf("%s: somebody else listens: %v", name, err)
		}
	}
}

// A step that ends takes its questions along; so does a connection, its own.
func TestForget(t *testing.T) {
	b := new(Broker)
	p := listen(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	short, long := ask(ctx, b, "s1", "a.example.com"), ask(t.Context(), b, "s2", "a.example.com")
	p.next()
	p.next()
	cancel()
	if got := <-short; got != Denied {
		t.Errorf("the connection has ended: %v", got)
	}
	b.Forget("s2")
	if got := <-long; got != Denied {
		t.Errorf("the step has ended: %v", got)
	}
	if q := p.next(); !q.Over {
		t.Errorf("got %+v, want an end", q)
	}
}

// A step that makes up names gets a bounded number of questions.
func TestFlood(t *testing.T) {
	b := new(Broker)
	p := listen(t, b)
	for i := range contract.AskMost {
		verdict := ask(t.Context(), b, fmt.Sprint("s", i%2), fmt.Sprintf("n%d.example.com", i))
		p.say(p.next().ID, true)
		if got := <-verdict; got != Allowed {
			t.Fatalf("question %d: %v", i, got)
		}
	}
	b.Forget("s0") // is no way to more questions
	for _, step := range []string{"s0", "s1", "s9"} {
		if got := b.Ask(t.Context(), step, host("more.example.com"), nil); got != Unasked {
			t.Errorf("%s: %v, want unasked", step, got)
		}
	}
	if got := b.Ask(t.Context(), "s1", host("n1.example.com"), nil); got != Allowed {
		t.Errorf("what was allowed is %v now", got)
	}
}

// Connections that wait for an answer are few, however many ask the same: each
// holds what it began with.
func TestCrowd(t *testing.T) {
	var b Broker
	p := listen(t, &b)
	ctx, leave := context.WithCancel(t.Context())
	first := ask(ctx, &b, "s1", "a.example")
	p.next()
	var waiting []<-chan Verdict
	for range mostWaiting - 1 {
		waiting = append(waiting, ask(ctx, &b, "s1", "a.example"))
	}
	for b.waiting.Load() < mostWaiting {
		runtime.Gosched()
	}
	if v := b.Ask(ctx, "s1", host("a.example"), about(host("a.example"))); v != Unasked {
		t.Errorf("one too many: %v", v)
	}
	leave()
	for _, v := range append(waiting, first) {
		if v := <-v; v != Denied {
			t.Errorf("one that left: %v", v)
		}
	}
	again := ask(t.Context(), &b, "s1", "a.example")
	p.say(1, true)
	if v := <-again; v != Allowed {
		t.Errorf("who comes when there is room: %v", v)
	}
}
