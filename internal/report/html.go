package report

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

// pageRows is how long a list in an HTML report may be.
const pageRows = 2000

// HTML writes r as one file that needs nothing else: no script at all, and a
// content security policy under which a browser loads nothing and takes no
// style but the one whose digest it names.
func HTML(w io.Writer, r *Report, opts Options) error {
	t, err := template.New("page").Parse(pageHTML)
	if err != nil {
		return fmt.Errorf("reading the page: %w", err)
	}
	digest := sha256.Sum256([]byte(pageCSS))
	var b strings.Builder
	err = t.Execute(&b, sheet{
		page:  newPage(r, opts.PerStep, pageRows),
		Style: template.CSS(pageCSS),
		Hash:  "sha256-" + base64.StdEncoding.EncodeToString(digest[:]),
		Facts: facts(r),
	})
	if err != nil {
		return fmt.Errorf("rendering the page: %w", err)
	}
	return write(w, b.String())
}

// sheet is a page with what only HTML needs.
type sheet struct {
	*page
	Style template.CSS
	Hash  string
	Facts [][2]string
}

// Tone is the class of the headline.
func (s sheet) Tone() string { return tone(s.Mark) }

// facts say which run this is.
func facts(r *Report) [][2]string {
	var list [][2]string
	for _, f := range [][2]string{
		{"run", r.RunID}, {"mode", r.Mode}, {"started", r.Started.Format("2006-01-02 15:04:05 UTC")},
		{"Dockerfile", r.Dockerfile}, {"policy", r.Config}, {"policy digest", r.PolicyDigest}, {"buildcage", program(r)},
	} {
		if f[1] != "" {
			list = append(list, [2]string{f[0], end(inert(f[1]), maxWidth)})
		}
	}
	return list
}
