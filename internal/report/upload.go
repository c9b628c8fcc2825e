package report

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/buildcage/buildcage/internal/event"
)

// Upload is a destination that a step sent a lot to: more than it got back, or
// very much. Downloads send requests, and little else.
type Upload struct {
	Host     string `json:"host"`
	Port     uint16 `json:"port"`
	Protocol string `json:"protocol"`
	Step     string `json:"step"`
	Up       int64  `json:"bytes_up"`
	Down     int64  `json:"bytes_down"`
	Percent  int64  `json:"percent"` // of what went either way, up
}

// What counts as an upload: from uploadMin bytes on when more went up than came
// down, from uploadMuch on in any case. A package manager's requests and the
// reports that it sends stay below the first.
const (
	uploadMin  = 64 << 10
	uploadMuch = 10 << 20
)

type uploadKey struct {
	host, protocol, step string
	port                 uint16
}

// sent counts what went on to a destination. Of what was refused nothing did,
// but for what fitted into the budget of the step.
func (s *sums) sent(host string, c *event.Conn) {
	if c.Up == 0 && c.Down == 0 || c.Verdict == event.Blocked && c.Reason != event.UploadBudget {
		return
	}
	u := s.sends.at(uploadKey{host, c.Protocol, c.Step, c.Port})
	u.Host, u.Port, u.Protocol, u.Step = host, c.Port, c.Protocol, c.Step
	u.Up, u.Down = event.Add(u.Up, c.Up), event.Add(u.Down, c.Down)
}

// uploads are sorted by size.
func (s *sums) uploads() []Upload {
	list := slices.DeleteFunc(s.sends.list(), func(u Upload) bool {
		return u.Up < uploadMin || u.Up <= u.Down && u.Up < uploadMuch
	})
	for i, u := range list {
		list[i].Percent = int64(float64(u.Up) / (float64(u.Up) + float64(u.Down)) * 100)
	}
	slices.SortStableFunc(list, func(a, b Upload) int { return cmp.Compare(b.Up, a.Up) })
	return list
}

// uploads calls out who sent what where.
func (t *text) uploads() {
	if len(t.report.Uploads) == 0 {
		return
	}
	t.heading("uploads (sent more than they got, or very much)")
	var rows table
	for _, u := range t.report.Uploads {
		rows.add(t.warn, nil, "↑", address(u.Host, u.Port), protocol(u.Protocol),
			size(u.Up)+" up", size(u.Down)+" down", fmt.Sprintf("%d%%", u.Percent), t.by([]string{u.Step}))
	}
	t.table(rows, "  ")
}
