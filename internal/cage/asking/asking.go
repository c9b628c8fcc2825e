// Package asking holds connections that no rule allows until a person has said
// whether they may pass. It fails closed: without somebody who listens, without
// an answer in time, after too many questions, and when who listened has gone,
// the answer is no. An answer counts for one destination of one running step.
package asking

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/policy"
)

// Verdict on what was to be asked about.
type Verdict int

const (
	Unasked Verdict = iota // nobody listens, or there were too many questions
	Denied
	Allowed
)

// Broker asks for one build. The zero value is ready, and nil asks nobody.
type Broker struct {
	Patience time.Duration // 0: contract.AskPatience

	waiting atomic.Int64 // connections that are held

	mu     sync.Mutex
	state  state
	asked  int
	all    map[key]*question
	outbox chan contract.Question // has room for all that can ever be sent
}

type state int

const (
	alone state = iota
	listening
	left // for good
)

type key struct {
	step   string
	target policy.Target
}

type question struct {
	contract.Question
	decided chan struct{}
	verdict Verdict // once decided is closed
	late    *time.Timer
}

// ErrTaken means that somebody listens already, or did.
var ErrTaken = errors.New("the questions of this build are answered already")

// Ask waits for what a person says about target. All who ask the same for one
// step share a question and its answer. describe makes the question.
func (b *Broker) Ask(ctx context.Context, step string, target policy.Target, describe func() contract.Question) Verdict {
	if b == nil {
		return Unasked
	}
	q := b.question(key{step, target}, describe)
	if q == nil {
		return Unasked
	}
	select {
	case <-q.decided:
		return q.verdict
	default:
	}
	defer b.waiting.Add(-1)
	if b.waiting.Add(1) > mostWaiting {
		return Unasked
	}
	select {
	case <-q.decided:
		return q.verdict
	case <-ctx.Done():
		return Denied
	}
}

// mostWaiting is how many connections are held: each keeps what it began with,
// 64 KiB at most.
const mostWaiting = 512

// question is the one about k, a new one where there is none; nil: nobody can
// be asked.
func (b *Broker) question(k key, describe func() contract.Question) *question {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != listening {
		return nil
	}
	if q := b.all[k]; q != nil {
		return q
	}
	if b.asked >= contract.AskMost {
		return nil
	}
	b.asked++
	q := &question{Question: describe(), decided: make(chan struct{})}
	q.ID = b.asked
	b.all[k] = q
	patience := b.Patience
	if patience == 0 {
		patience = contract.AskPatience
	}
	q.late = time.AfterFunc(patience, func() { b.withdraw(q) })
	b.outbox <- q.Question
	return q
}

// withdraw denies a question that is still open, and says so.
func (b *Broker) withdraw(q *question) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q.decide(Denied) {
		b.outbox <- contract.Question{ID: q.ID, Over: true}
	}
}

// decide is called with the lock held.
func (q *question) decide(v Verdict) bool {
	select {
	case <-q.decided:
		return false
	default:
	}
	q.late.Stop()
	q.verdict = v
	close(q.decided)
	return true
}

// Forget denies what is open of a step that has ended, and forgets its answers.
func (b *Broker) Forget(step string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, q := range b.all {
		if k.step != step {
			continue
		}
		if q.decide(Denied) {
			b.outbox <- contract.Question{ID: q.ID, Over: true}
		}
		delete(b.all, k)
	}
}

// Serve writes questions to out and reads answers from in until one of them or
// ctx ends. Then it denies all that is open; who comes later is not asked.
func (b *Broker) Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	if err := b.open(); err != nil {
		return err
	}
	defer b.close()
	lines := json.NewEncoder(out)
	if err := lines.Encode(contract.Question{}); err != nil {
		return fmt.Errorf("asking: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- b.listen(in) }()
	for {
		select {
		case q := <-b.outbox:
			if err := lines.Encode(q); err != nil {
				return fmt.Errorf("asking: %w", err)
			}
		case err := <-ended:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

func (b *Broker) open() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != alone {
		return ErrTaken
	}
	b.state = listening
	b.all = make(map[key]*question)
	b.outbox = make(chan contract.Question, 2*contract.AskMost)
	return nil
}

func (b *Broker) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state = left
	for _, q := range b.all {
		q.decide(Denied)
	}
	b.all = nil
}

// listen takes answers. What is none ends the listening.
func (b *Broker) listen(in io.Reader) error {
	answers := json.NewDecoder(in)
	for {
		var a contract.Answer
		if err := answers.Decode(&a); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading an answer: %w", err)
		}
		b.answer(a)
	}
}

func (b *Broker) answer(a contract.Answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, q := range b.all {
		if q.ID == a.ID && b.state == listening {
			v := Denied
			if a.Allow {
				v = Allowed
			}
			q.decide(v)
		}
	}
}
