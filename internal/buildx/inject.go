package buildx

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/buildx/driver"
	"github.com/docker/buildx/util/progress"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"google.golang.org/grpc"
)

// driverName is the driver that takes unix:// endpoints.
const driverName = "remote"

// inject makes the remote driver tell of notes, until restore is called.
func inject(notes *Notes) (restore func(), err error) {
	if notes == nil {
		return func() {}, nil
	}
	remote, err := driver.GetFactory(driverName, true)
	if err != nil {
		return nil, fmt.Errorf("preparing the progress: %w", err)
	}
	return driver.Register(factory{remote, notes}), nil
}

// factory makes drivers whose clients hear of notes where they ask for status.
type factory struct {
	driver.Factory
	notes *Notes
}

func (f factory) New(ctx context.Context, cfg driver.InitConfig) (driver.Driver, error) {
	d, err := f.Factory.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return noted{d, f.notes}, nil
}

// noted is the remote driver. That keeps the client of the first call, which
// its own methods may make.
type noted struct {
	driver.Driver
	notes *Notes
}

func (d noted) Info(ctx context.Context) (*driver.Info, error) {
	if _, err := d.Client(ctx); err != nil {
		return &driver.Info{Status: driver.Inactive}, nil // as the remote driver says it
	}
	return d.Driver.Info(ctx)
}

func (d noted) Bootstrap(ctx context.Context, l progress.Logger) error {
	if _, err := d.Client(ctx); err != nil {
		return err
	}
	return d.Driver.Bootstrap(ctx, l)
}

func (d noted) Client(ctx context.Context, opts ...client.ClientOpt) (*client.Client, error) {
	return d.Driver.Client(ctx, append(opts, client.WithGRPCDialOption(grpc.WithChainStreamInterceptor(d.notes.intercept)))...)
}

// intercept puts notes into the status of a build.
func (n *Notes) intercept(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(ctx, desc, cc, method, opts...)
	if err != nil || method != controlapi.Control_Status_FullMethodName {
		return stream, err
	}
	s := &noting{ClientStream: stream, ctx: ctx, notes: n, bell: n.enter(), real: make(chan received)}
	go s.receive()
	return s, nil
}

// noting is a stream of BuildKit's status and of notes. RecvMsg is for one
// goroutine.
type noting struct {
	grpc.ClientStream
	ctx   context.Context // of the call; the stream's own ends with its last message
	notes *Notes
	bell  <-chan struct{}
	real  chan received
	base  time.Time // BuildKit's clock when it was seen; zero: no vertex has begun
	seen  time.Time
	err   error // that ended the stream
}

type received struct {
	message *controlapi.StatusResponse
	err     error
}

func (s *noting) receive() {
	for {
		m := new(controlapi.StatusResponse)
		err := s.ClientStream.RecvMsg(m)
		select {
		case s.real <- received{m, err}:
		case <-s.ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// RecvMsg returns what comes first. After the end of the stream there is one
// message more when notes are still open.
func (s *noting) RecvMsg(into any) error {
	to, ok := into.(*controlapi.StatusResponse)
	if !ok {
		return fmt.Errorf("receiving status: into a %T", into)
	}
	for s.err == nil {
		bell := s.bell
		if s.base.IsZero() { // the display takes its clock from the first vertex
			bell = nil
		}
		select {
		case got := <-s.real:
			if got.err != nil {
				return s.end(to, got.err)
			}
			s.look(got.message)
			move(to, got.message)
			return nil
		case <-bell:
			if m := s.notes.take(s.now); m != nil {
				move(to, m)
				return nil
			}
		case <-s.ctx.Done():
			return s.end(to, s.ctx.Err())
		}
	}
	return s.err
}

func (s *noting) end(to *controlapi.StatusResponse, err error) error {
	s.err = err
	if s.notes.Ending != nil {
		s.notes.Ending()
	}
	if m := s.notes.leave(s.now); m != nil && !s.base.IsZero() {
		move(to, m)
		return nil
	}
	return err
}

// look sets the clock by the first vertex that has begun.
func (s *noting) look(m *controlapi.StatusResponse) {
	for _, v := range m.Vertexes {
		if s.base.IsZero() && v.Started != nil {
			s.base, s.seen = v.Started.AsTime(), time.Now()
		}
	}
}

// now is the time on BuildKit's clock, as far as it is known.
func (s *noting) now() time.Time {
	if s.base.IsZero() {
		return time.Now()
	}
	return s.base.Add(time.Since(s.seen))
}

func move(to, from *controlapi.StatusResponse) {
	to.Vertexes, to.Statuses, to.Logs, to.Warnings = from.Vertexes, from.Statuses, from.Logs, from.Warnings
}
