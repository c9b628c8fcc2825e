package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// Read reads what JSON wrote. The file may have come from anywhere, so its
// texts are cleaned like those of a record.
func Read(data []byte) (*Report, error) {
	r := new(Report)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("reading the report: %w", err)
	}
	if r.Schema != Schema {
		return nil, fmt.Errorf("schema %q, want %q", event.Clean(r.Schema), Schema)
	}
	cleanAll(reflect.ValueOf(r).Elem())
	for i := range r.Suggested.Steps {
		e := &r.Suggested.Steps[i]
		e.Selector = plain(e.Run)
	}
	return r, nil
}

// cleanAll cleans every text of v. The arrow between processes is ours.
func cleanAll(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		parts := strings.Split(v.String(), arrow)
		for i := range parts {
			parts[i] = event.Clean(parts[i])
		}
		v.SetString(strings.Join(parts, arrow))
	case reflect.Pointer:
		if !v.IsNil() {
			cleanAll(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			cleanAll(v.Index(i))
		}
	case reflect.Map:
		cleaned := reflect.MakeMap(v.Type())
		for _, key := range v.MapKeys() {
			k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			k.Set(key)
			e.Set(v.MapIndex(key))
			cleanAll(k)
			cleanAll(e)
			cleaned.SetMapIndex(k, e)
		}
		if !v.IsNil() {
			v.Set(cleaned)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			cleanAll(v.Field(i))
		}
	}
}

// Alone fills in what a record by itself says of its run: when it was, and
// that a build failed whose step did.
func (in Input) Alone() Input {
	n := len(in.Records)
	if n == 0 {
		return in
	}
	in.Started = in.Records[0].Time
	in.Duration = in.Records[n-1].Time.Sub(in.Started)
	for _, rec := range in.Records {
		if rec.Start != nil {
			in.Mode = cmp.Or(in.Mode, rec.Start.Mode, string(policy.Restrict))
		}
		if rec.Step != nil && rec.Step.Exit != nil && *rec.Step.Exit != 0 {
			in.BuildExit = exitBuildFailed
		}
	}
	return in
}

// Headline is the run in one line, for lists of runs.
func Headline(r *Report) string {
	s := newSummary(r, false)
	mark, line := s.headline()
	return mark + " " + line
}
