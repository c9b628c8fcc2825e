package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/docker"
	"github.com/buildcage/buildcage/internal/event"
)

func (a *app) logsCommand() (*cobra.Command, error) {
	var follow, asJSON, diagnostics bool
	cmd := a.stayCommand("logs [NAME]", "Show what plain builds did in a cage that stays", `Show the record of the cage itself: what the steps of plain docker buildx builds
reached and were refused. Builds of buildcage have records of their own; see
buildcage report. Of a cage that does not run, and with --diagnostics, its
diagnostics are shown.`, func(ctx context.Context, s *stays, name string) error {
		cage, err := s.one(ctx, name)
		if err != nil {
			return err
		}
		if diagnostics || !cage.Running() {
			return s.engine.Log(ctx, cage, follow, s.streams.out)
		}
		return s.logs(ctx, cage, follow, asJSON)
	})
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "Go on until interrupted")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print the records as they are, one JSON object a line")
	cmd.Flags().BoolVar(&diagnostics, "diagnostics", false, "Show the cage's diagnostics instead")
	return cmd, nil
}

// quiet is how long a record that is not followed may be silent before it is
// taken for read.
const quiet = 300 * time.Millisecond

// logs prints the records, those to come included when follow is set.
func (s *stays) logs(parent context.Context, cage *docker.Staying, follow, asJSON bool) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	r, w := io.Pipe()
	asked := make(chan error, 1)
	go func() {
		err := s.ask(ctx, cage, w, contract.CommandEvents)
		w.CloseWithError(err)
		asked <- err
	}()
	heard := func() {}
	if !follow {
		silent := time.AfterFunc(askTime, cancel)
		heard = func() { silent.Reset(quiet) }
	}
	if err := s.printRecords(r, asJSON, heard); err != nil {
		return err
	}
	over := ctx.Err() != nil
	cancel()
	err := <-asked
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return nil
	case follow && !over:
		return s.outlived(parent, cage, err)
	}
	return err
}

// endTime is how long the end of a cage may take to show, once its record broke off.
const endTime = 5 * time.Second

// outlived says that a cage has ended while its record was followed, which is
// no error, or returns the one that it was.
func (s *stays) outlived(ctx context.Context, cage *docker.Staying, err error) error {
	open := s.engine.Open(ctx, cage)
	defer open.Close()
	select {
	case <-open.Done():
	case <-time.After(endTime):
	}
	now, findErr := s.engine.FindStay(ctx, cage.Name)
	if findErr != nil {
		return findErr
	}
	if now != nil && now.Running() && now.Started.Equal(cage.Started) {
		return err
	}
	s.note("cage " + cage.Name + " has ended; buildcage ls shows whether it is up again")
	return nil
}

// printRecords writes them as they come, until there are no more.
func (s *stays) printRecords(from io.Reader, asJSON bool, heard func()) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 2*event.MaxRecord)
	var last uint64
	for lines.Scan() {
		heard()
		var record event.Record
		err := json.Unmarshal(lines.Bytes(), &record)
		if err == nil {
			s.missing(last, record.Seq)
			last = record.Seq
		}
		text := lines.Text()
		if !asJSON {
			text = logLine(&record, err)
		}
		if _, err := fmt.Fprintln(s.streams.out, text); err != nil {
			return err
		}
	}
	return nil
}

// missing tells that records are gone: a cage that stays keeps the latest ones.
func (s *stays) missing(last, next uint64) {
	if next > last+1 {
		s.note(fmt.Sprintf("%d earlier records are gone: the cage keeps the latest", next-last-1))
	}
}

// logLine is a record for a person. Everything in it may be hostile.
func logLine(r *event.Record, err error) string {
	if err != nil {
		return "unreadable record"
	}
	return event.Clean(r.Time.Local().Format("15:04:05.000") + "  " + describeRecord(r))
}

func describeRecord(r *event.Record) string {
	switch {
	case r.Start != nil:
		return "start   " + r.Start.Mode + ", policy " + short(r.Start.PolicyDigest)
	case r.Step != nil && r.Step.Exit != nil:
		return fmt.Sprintf("exit %-3d step %s %s", *r.Step.Exit, r.Step.ID, r.Step.Command)
	case r.Step != nil && r.Step.Cached:
		return "cached  step " + r.Step.ID + " " + r.Step.Command
	case r.Step != nil:
		return "begin   step " + r.Step.ID + " " + r.Step.Command
	case r.Conn != nil:
		c := r.Conn
		parts := []string{fmt.Sprintf("%-7s step %s %s", c.Verdict, c.Step, c.Protocol), at(c), string(c.Reason), c.Detail}
		return strings.Join(strings.Fields(strings.Join(parts, " ")), " ")
	case r.DNS != nil:
		return strings.TrimSpace("dns     step " + r.DNS.Step + " " + r.DNS.Type + " " + r.DNS.Name + " " + string(r.DNS.Reason))
	case r.Drop != nil:
		return "refused step " + r.Drop.Step + " " + r.Drop.Protocol + " " + r.Drop.Dest.String()
	case r.Source != nil:
		return "source  " + r.Source.Ref + " " + r.Source.Host
	case r.End != nil:
		return "end     " + r.End.Reason
	}
	return string(r.Kind)
}

func at(c *event.Conn) string {
	port := strconv.Itoa(int(c.Port))
	switch {
	case c.Name != "":
		return net.JoinHostPort(c.Name, port)
	case c.OrigName != "":
		return net.JoinHostPort(c.OrigName, port)
	case c.Orig.IsValid():
		return c.Orig.String()
	}
	return ""
}
