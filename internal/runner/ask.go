package runner

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
)

const (
	// askTime bounds the wait for the first word of who asks.
	askTime = 30 * time.Second
	// maxQuestion is the longest line.
	maxQuestion = 64 << 10
)

// takeQuestions hands the questions of the cage on, where somebody wants them,
// from before the build until after it. When the cage can't hand them over any
// more it has denied them.
func (r *run) takeQuestions(ctx context.Context) error {
	if r.Ask == nil {
		return nil
	}
	stream, err := r.cage.Exec(ctx, contract.CommandAsk)
	if err != nil {
		return fmt.Errorf("waiting for questions: %w", err)
	}
	lines := bufio.NewScanner(stream)
	lines.Buffer(make([]byte, 0, 4096), maxQuestion)
	late := time.AfterFunc(askTime, func() { stream.Close() })
	stop := context.AfterFunc(ctx, func() { stream.Close() })
	first, err := nextQuestion(lines)
	late.Stop()
	stop()
	if err == nil && first.ID != 0 {
		err = errors.New("the first line is a question")
	}
	if err != nil {
		stream.Close()
		return fmt.Errorf("waiting for questions: %w", err)
	}
	var over sync.WaitGroup
	over.Go(func() { r.hearQuestions(lines, stream) })
	r.later("stop asking", func(context.Context) error {
		_ = stream.CloseWrite()
		stream.Close()
		over.Wait()
		return nil
	})
	return nil
}

func (r *run) hearQuestions(lines *bufio.Scanner, to stream) {
	var mu sync.Mutex
	reply := func(a contract.Answer) error {
		mu.Lock()
		defer mu.Unlock()
		return json.NewEncoder(to).Encode(a)
	}
	for {
		q, err := nextQuestion(lines)
		if err != nil {
			return
		}
		r.Ask(q, reply)
	}
}

func nextQuestion(lines *bufio.Scanner) (q contract.Question, err error) {
	if !lines.Scan() {
		return q, errors.Join(errors.New("the cage has hung up"), lines.Err())
	}
	if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
		return q, fmt.Errorf("the cage says %s", event.Escape(lines.Text()))
	}
	return q, nil
}
