package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/buildcage/buildcage/internal/cage/api"
	"github.com/buildcage/buildcage/internal/cage/control"
	"github.com/buildcage/buildcage/internal/cage/tenant"
	"github.com/buildcage/buildcage/internal/cage/vertex"
	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// vertices links steps to the builds they belong to.
type vertices struct {
	table vertex.Table
	ran   ran
	spans string // address of the span receiver, host:port
	late  sync.WaitGroup
	// ending are the steps that have ended and whose evidence is not kept yet.
	ending gate
	// watching are the builds whose status is followed.
	watching gate
}

const (
	// spanLimit is how long the end of a step waits to learn its vertex: BuildKit
	// tells when it has cleaned up, which takes its time when hundreds of steps
	// end at once. lastSpans is the same once the cage ends.
	spanLimit = 15 * time.Second
	lastSpans = 2 * time.Second
	// spanDelay is how long buildkitd collects spans before it sends them.
	spanDelay = 20 * time.Millisecond
	// stageLimit is how long the start of a step waits for its stage to be
	// known, where the policy asks for stages.
	stageLimit = 25 * time.Millisecond
)

// receiveSpans listens, on loopback, for buildkitd's trace spans. Only the
// builder can reach it, and all it does is to name vertices.
func (p *parts) receiveSpans(_, life context.Context) (down, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.vertices.spans = l.Addr().String()
	srv := &http.Server{Handler: p.vertices.table.Receiver(), ReadHeaderTimeout: 10 * time.Second}
	ctx, stop := context.WithCancel(context.WithoutCancel(life)) // steps that end last have spans too
	go p.watch(ctx, "span receiver", func() error { return srv.Serve(l) })
	return func(context.Context) error {
		stop()
		return srv.Close()
	}, nil
}

// serveAPI opens the front door: builds that ask for a way out of the cage are
// turned away, the others are watched.
func (p *parts) serveAPI(_, life context.Context) (down, error) {
	if p.tested != nil {
		<-p.tested // nobody builds beside the remains of the self-test
	}
	l, err := control.Listen(contract.APISocket)
	if err != nil {
		return nil, err
	}
	cc, err := api.Dial(contract.BuildKitSocket)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	p.doors.cc, p.doors.life = cc, life
	server := p.door(p.house)
	p.activity.begin(p.config, p.end)
	p.activity.first = p.renew
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.watch(life, "api", func() error { return server.Serve(life, l) })
	}()
	return func(context.Context) error { <-done; return cc.Close() }, nil
}

// door is the front door of a tenant: what comes in there is the tenant's.
func (p *parts) door(t *tenant.Tenant) *api.Server {
	return &api.Server{
		BuildKit: contract.BuildKitSocket, Log: p.log, Trace: t.Trace,
		Owns: func(ref string) bool { return p.tenants.Claim(ref, t) },
		Refused: func(r api.Refusal) {
			t.Journal.Add(event.Record{Kind: event.KindConn, Conn: &event.Conn{
				Step: event.BuilderStep, Verdict: event.Blocked, Reason: r.Reason, Detail: event.Escape(r.Detail),
			}})
		},
		Apart: p.apart.mark,
		Solving: func(ref string) {
			p.vertices.table.Begin(ref)
			p.apart.enter(ref, t.Policy.Digest())
			done, idle := p.vertices.watching.enter(t), func() {}
			if t == p.house {
				idle = p.activity.enter()
			}
			go func() {
				defer idle()
				defer done()
				defer p.apart.leave(ref)
				p.watchBuild(p.doors.life, p.doors.cc, t, ref)
			}()
		},
		Importing: p.vertices.table.Imports,
		Explain: func(since time.Time, message string) string {
			return p.turned.explain(t, since, message)
		},
	}
}

func (p *parts) watchBuild(life context.Context, cc *grpc.ClientConn, t *tenant.Tenant, ref string) {
	err := p.vertices.table.Watch(life, cc, ref, func(before, now vertex.Vertex) {
		p.heard(now)
		if before.Completed.IsZero() && !now.Completed.IsZero() {
			p.completed(t, now)
		}
		p.sources.note(now)
	})
	p.fetched(t, ref)
	if err != nil && life.Err() == nil {
		p.log.Warn("following a build", "error", err)
	}
}

// completed records what never becomes a step: RUN instructions that the cache
// answered, or a result that another build had just made.
func (p *parts) completed(t *tenant.Tenant, v vertex.Vertex) {
	name := vertex.ParseName(v.Name)
	command, run := name.Run()
	switch {
	case !run:
	case v.Cached:
		p.cached(t, v, command, p.vertices.table.Identity(v))
	case p.config.Linger && v.Error == "":
		done := p.vertices.watching.enter(t)
		go func() { // what comes next from the build may be about a step that runs
			defer done()
			p.vertices.ending.wait(context.Background(), nil)
			if identity, told := p.vertices.ran.told(v.Digest, t); !told {
				p.cached(t, v, command, cmp.Or(identity, p.vertices.table.Identity(v)))
			}
		}()
	}
}

// describe adds what the build says about a step.
func describe(s *event.Step, v vertex.Vertex) {
	s.Build, s.Vertex, s.Name = v.Build, v.Digest, event.Escape(v.Name)
	name := vertex.ParseName(v.Name)
	s.Stage = name.Stage
	for _, env := range name.SecretEnv() {
		if env = "$" + event.Escape(env); !slices.Contains(s.Secrets, env) {
			s.Secrets = append(slices.Clone(s.Secrets), env)
		}
	}
}

// identify looks for a step among the instructions that may be running.
func identify(start control.Start, pending []vertex.Vertex) (s policy.Step, known bool) {
	s = policy.Step{Command: start.Command, Secrets: len(start.Secrets) > 0}
	var stages []string
	secret, other, stranger := 0, 0, 0 // instructions with secret variables: ours, without: ours; with: others
	for _, v := range pending {
		name := vertex.ParseName(v.Name)
		_, run := name.Run()
		ours := run && likenessOf(v, start.Command) == certain
		hidden := len(name.SecretEnv()) > 0
		switch {
		case ours && hidden:
			secret++
		case ours:
			other++
		case hidden:
			stranger++
		}
		if ours && !slices.Contains(stages, name.Stage) {
			stages = append(stages, name.Stage)
		}
	}
	if len(stages) == 1 {
		s.Stage = stages[0]
	}
	switch {
	case s.Secrets: // mounts are certain
	case secret > 0:
		s.Secrets, s.Undisclosed = true, other > 0
	case other == 0: // ours may be one that is written in another way, or not heard of yet
		s.Undisclosed = stranger > 0 || len(pending) == 0
	}
	return s, len(stages) > 0
}

// ended records the end of a step, with its vertex if that becomes known in
// time: spans are reported when they are over.
func (p *parts) ended(s event.Step, r running) {
	done := p.vertices.ending.enter(nil)
	p.vertices.late.Go(func() {
		defer done()
		var found []vertex.Vertex
		if r.span != "" {
			ctx, stop := p.patience()
			digest, ok := p.vertices.table.AwaitSpan(ctx, r.span, spanLimit)
			stop()
			if ok {
				found = p.vertices.table.ByDigest(digest)
			}
		}
		for _, v := range found { // who had it in common and was not heard of before
			if t := p.tenants.Of(v.Build); t != nil && (v.Completed.IsZero() || v.Completed.After(r.since)) {
				p.join(r.crew, t)
			}
		}
		r.crew.end(s, found, p.tenants.Of)
		if len(found) > 0 {
			p.vertices.ran.note(found[0].Digest, p.vertices.table.Identity(found[0]), r.crew.tenants())
		}
		p.keep(r, *s.Exit, found)
		time.AfterFunc(lateGrace, func() { p.registry.forget(s.ID) })
	})
}

// renew makes room for names when nobody builds and no step is left.
func (p *parts) renew() {
	if p.config.Linger && len(p.registry.going()) == 0 && p.pool.Renew() {
		p.log.Info("the names of earlier builds are forgotten")
	}
}

// patience ends a while after the cage begins to.
func (p *parts) patience() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	if p.doors.life == nil {
		return ctx, cancel
	}
	ended := context.AfterFunc(p.doors.life, func() { time.AfterFunc(lastSpans, cancel) })
	return ctx, func() { ended(); cancel() }
}

// gate lets wait for those who are inside now, and not for later ones. The zero
// value is ready.
type gate struct {
	mu     sync.Mutex
	inside map[chan struct{}]*tenant.Tenant
}

// enter is for a tenant, or for nobody in particular.
func (g *gate) enter(t *tenant.Tenant) (leave func()) {
	one := make(chan struct{})
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside == nil {
		g.inside = make(map[chan struct{}]*tenant.Tenant)
	}
	g.inside[one] = t
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.inside, one)
		close(one)
	}
}

// wait is for those of one tenant, or for all.
func (g *gate) wait(ctx context.Context, whose *tenant.Tenant) {
	g.mu.Lock()
	var all []chan struct{}
	for one, t := range g.inside {
		if whose == nil || t == whose {
			all = append(all, one)
		}
	}
	g.mu.Unlock()
	for _, one := range all {
		select {
		case <-one:
		case <-ctx.Done():
			return
		}
	}
}

// tracing is what makes buildkitd report its spans to us, and put their ids
// into the configuration of steps.
func (p *parts) tracing() (args, env []string) {
	return []string{"--otel-socket-path", "/run/buildkit/otel-grpc.sock"}, []string{
		"OTEL_TRACES_EXPORTER=otlp",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://" + p.vertices.spans,
		"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf",
		fmt.Sprintf("OTEL_BSP_SCHEDULE_DELAY=%d", spanDelay.Milliseconds()),
	}
}
