package proxy

import "time"

// Overdue is what happens every second.
func (s *Server) Overdue(now time.Time) { s.overdue(now) }

// Connecting is how many connections wait for their origin.
func (s *Server) Connecting() (n int64) {
	s.prepare()
	for _, r := range s.relays {
		n += r.connecting.Load()
	}
	return n
}
