package cli

import (
	"github.com/buildcage/buildcage/internal/buildx"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/live"
)

// live puts a line about the steps' traffic into buildx's progress where that
// is on a terminal, and returns what makes it; nil: there is none.
func (b *build) live() func(*event.Record) {
	b.buildx.Notes = nil
	if !b.buildx.Redraws() || !b.streams.transient() {
		return nil
	}
	notes := new(buildx.Notes)
	b.buildx.Notes = notes
	feed := &live.Feed{Show: func(line string) {
		notes.Show(buildx.Note{ID: "traffic", Text: "[cage] " + line})
	}}
	notes.Ending = feed.Flush
	return feed.Hear
}
