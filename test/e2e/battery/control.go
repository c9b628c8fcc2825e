package battery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
)

// Control runs a case on the uncaged builder and returns what leaked there: the
// lines of the file (section uncaged, else restrict) that want 0 and got more,
// and what the invariants of sink and uplink forbid.
func (b *Battery) Control(ctx context.Context, c *Case, tmp string) (leaks []string, r *Run, err error) {
	if r, err = b.newRun(c, Uncaged, tmp); err != nil {
		return nil, nil, err
	}
	u, err := b.Lab.Uncaged(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := r.prepare(ctx); err != nil {
		return nil, nil, err
	}
	u.Reset()
	build, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	go func() { // no hook does anything here; nobody shall wait for one
		for b.Lab.Origin.Waiting(build) == nil && b.Lab.Origin.Release(build) == nil {
		}
	}()
	var log bytes.Buffer
	buildErr := u.Build(build, r.Dir, r.attrs(), &log)
	if err := r.collect(ctx); err != nil {
		return nil, nil, err
	}
	r.Traffic.Uplink, r.Traffic.Lost = u.Flows()
	leaks = r.Traffic.exceeded(r.Lines)
	r.Mode = Restrict
	leaks = append(leaks, r.sink(nil)...)
	for _, f := range r.Traffic.Uplink {
		if f.Proto != "tcp" && f.Port != 53 { // the resolver is the builder's own there
			leaks = append(leaks, fmt.Sprintf("%d packets of %s to %s port %d left", f.Packets, f.Proto, f.Dst, f.Port))
		}
	}
	if len(leaks) == 0 {
		r.Log("%s\n%s", r.Traffic.summary(), tail(log.String()))
		return nil, r, errors.Join(errors.New("nothing leaked without a cage"), buildErr)
	}
	return leaks, r, nil
}

// attrs are the case's flags as options of the Dockerfile frontend, as far as
// there are such.
func (r *Run) attrs() map[string]string {
	attrs := make(map[string]string)
	for i := 0; i+1 < len(r.Case.Args); i++ {
		value := r.fill(r.Case.Args[i+1])
		switch r.Case.Args[i] {
		case "--build-arg":
			name, v, _ := strings.Cut(value, "=")
			attrs["build-arg:"+name] = v
		case "--add-host":
			host, address, _ := strings.Cut(value, ":")
			if old := attrs["add-hosts"]; old != "" {
				host = old + "," + host
			}
			attrs["add-hosts"] = host + "=" + address
		case "--sbom":
			attrs["attest:sbom"] = value
		}
	}
	return attrs
}
