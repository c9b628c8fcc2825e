package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/buildcage/buildcage/test/e2e/lab/zone"
)

// resolver answers from a script and logs every question. What the script does
// not name resolves to the sink: a look-up that should not have happened leads
// where it is counted.
type resolver struct {
	count *counter
	mu    sync.Mutex
	zone  *zone.Zone
}

func serveNames(ctx context.Context) error {
	r := &resolver{count: newCounter(), zone: &zone.Zone{}}
	for _, network := range []string{"udp", "tcp"} {
		srv := &dns.Server{Addr: ":53", Net: network, Handler: r, ReusePort: false}
		go func() {
			if err := srv.ListenAndServe(); err != nil {
				fmt.Println("names:", err)
			}
		}()
	}
	return control(ctx, r.count, map[string]http.HandlerFunc{"POST /zone": r.script})
}

// script replaces the zone.
func (r *resolver) script(w http.ResponseWriter, req *http.Request) {
	text, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	if err == nil {
		var z *zone.Zone
		if z, err = zone.Parse(string(text)); err == nil {
			r.mu.Lock()
			r.zone = z
			r.mu.Unlock()
			return
		}
	}
	http.Error(w, err.Error(), http.StatusBadRequest)
}

func (r *resolver) replaced(z *zone.Zone) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.zone != z
}

func (r *resolver) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	if len(q.Question) != 1 {
		m.SetRcode(q, dns.RcodeFormatError)
		_ = w.WriteMsg(m)
		return
	}
	question := q.Question[0]
	name := strings.ToLower(strings.TrimSuffix(question.Name, "."))
	network := w.LocalAddr().Network()
	r.count.query(name, dns.TypeToString[question.Qtype], network)
	r.mu.Lock()
	asked := r.zone
	a := asked.Answer(name, question.Qtype)
	r.mu.Unlock()
	if a.Delay > 0 {
		time.Sleep(a.Delay)
		if r.replaced(asked) {
			return // who asked is gone, and the next case would see the answer
		}
	}
	m.SetReply(q)
	m.RecursionAvailable = true
	m.Rcode = a.Rcode
	m.Answer = a.Records(question.Name)
	if a.Confuse {
		m.Id++
	}
	switch {
	case a.Silent:
		return
	case a.Truncate && network == "udp":
		m.Truncated, m.Answer = true, nil
	}
	_ = w.WriteMsg(m)
}
