package proxy

import (
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
)

// upgraded relays 101 and then everything, both ways: a tunnel that is pinned
// to the origin of the judged host until it ends. It returns false.
func (x *exchange) upgraded(ev *event.Conn, h *head, r *http.Response) bool {
	origin, ok := r.Body.(io.ReadWriteCloser)
	chosen := strings.ToLower(r.Header.Get("Upgrade"))
	if !ok || !h.upgrades() || !slices.Contains(h.upgrade, chosen) {
		ev.Verdict, ev.Reason, ev.Detail = event.Failed, event.UpstreamError, "origin switched protocols unasked"
		return x.answer(ev, http.StatusBadGateway, "")
	}
	ev.Flags = append(ev.Flags, flagUpgrade)
	if chosen == "websocket" {
		ev.Flags[len(ev.Flags)-1] = flagWebSocket
	}
	clean(r.Header, nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", chosen)
	if x.writeHead(r, 0) == nil {
		x.relayUpgraded(origin)
	}
	x.end(ev)
	x.finish(ev)
	return false
}

func (x *exchange) relayUpgraded(origin io.ReadWriteCloser) {
	done := make(chan error, 1)
	go func() {
		defer func() { x.caught(recover(), done) }()
		_, err := io.Copy(reply{x}, origin)
		if err == nil {
			err = x.client.open().CloseWrite()
		}
		if err != nil {
			x.cut(running)
		}
		done <- err
	}()
	_, err := io.Copy(origin, metered{x})
	if half, ok := origin.(interface{ CloseWrite() error }); ok && err == nil {
		half.CloseWrite()
	} else {
		origin.Close()
	}
	if err := <-done; err != nil {
		x.Logger.Debug("upgraded connection broke off", "error", err)
	}
}

// metered reads from an upgraded client within the upload budget.
type metered struct{ x *exchange }

func (m metered) Read(b []byte) (int, error) {
	n, err := m.x.br.Read(b)
	if n > 0 && !m.x.usage.spend(n) {
		m.x.cut(reasonBudget)
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}
