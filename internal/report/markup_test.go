package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	gmhtml "github.com/yuin/goldmark/renderer/html"
	"golang.org/x/net/html"
)

// readMarkdown renders it as GitHub does, raw HTML included, and wants nothing
// but the elements that the report itself uses, and whole tables.
func readMarkdown(out []byte, r *Report) (wrong []string) {
	if len(out) > SummaryLimit {
		wrong = append(wrong, "too long")
	}
	var b bytes.Buffer
	md := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithRendererOptions(gmhtml.WithUnsafe()))
	if err := md.Convert(out, &b); err != nil {
		return []string{err.Error()}
	}
	allowed := []string{"h2", "h3", "p", "table", "thead", "tbody", "tr", "th", "td", "code", "pre", "details", "summary", "strong", "blockquote", "br"}
	doc := elements(b.Bytes(), allowed, []string{"class", "style", "align"})
	wrong = append(wrong, doc.compare(r)...)
	if strings.Contains(doc.prose, "@") { // GitHub makes addresses of what is around it
		wrong = append(wrong, "an at sign outside of code")
	}
	return append(append(wrong, doc.wrong...), strange(string(out))...)
}

type document struct {
	wrong []string
	rows  [][]string // cells of each
	cell  bool       // inside of one
	code  bool       // inside of a code span
	prose string     // text outside of those
	style []string
	csp   string
}

// elements reads HTML and finds what it must not have.
func elements(out []byte, allowed, attributes []string) (doc document) {
	z := html.NewTokenizer(bytes.NewReader(out))
	inStyle := false
	for {
		switch z.Next() {
		case html.ErrorToken:
			if !errors.Is(z.Err(), io.EOF) {
				doc.wrong = append(doc.wrong, z.Err().Error())
			}
			return doc
		case html.CommentToken:
			doc.wrong = append(doc.wrong, "a comment")
		case html.TextToken:
			text := z.Token().Data
			if inStyle {
				doc.style = append(doc.style, text)
			}
			doc.wrong = append(doc.wrong, strange(text)...)
			if !doc.code {
				doc.prose += text
			}
			if doc.cell {
				row := doc.rows[len(doc.rows)-1]
				row[len(row)-1] += text
			}
		case html.EndTagToken:
			inStyle = false
			switch tag, _ := z.TagName(); string(tag) {
			case "td", "th":
				doc.cell = false
			case "code":
				doc.code = false
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			token := z.Token()
			inStyle = token.Data == "style"
			doc.element(token, allowed, attributes)
		}
	}
}

func (doc *document) element(token html.Token, allowed, attributes []string) {
	if !slices.Contains(allowed, token.Data) {
		doc.wrong = append(doc.wrong, "element "+token.String())
	}
	for _, a := range token.Attr {
		if !slices.Contains(attributes, a.Key) || a.Key == "style" && !strings.HasPrefix(a.Val, "text-align:") {
			doc.wrong = append(doc.wrong, "attribute in "+token.String())
		}
		doc.wrong = append(doc.wrong, strange(a.Val)...)
		if a.Key == "content" && strings.HasPrefix(a.Val, "default-src") {
			doc.csp = a.Val
		}
	}
	switch token.Data {
	case "code":
		doc.code = true
	case "tr":
		doc.rows = append(doc.rows, nil)
	case "td", "th":
		last := len(doc.rows) - 1
		doc.rows[last], doc.cell = append(doc.rows[last], ""), true
	}
}

// compare finds cells that don't say what they should: text that a table took
// for its own.
func (doc *document) compare(r *Report) []string {
	var want [][]string
	for _, s := range newPage(r, false, 1000).Sections {
		for _, b := range s.Blocks {
			if len(b.Rows) == 0 {
				continue
			}
			head := []string{""}
			for _, c := range b.Head {
				head = append(head, c.Name)
			}
			want = append(want, head)
			for _, row := range b.Rows {
				want = append(want, append([]string{row.Mark}, row.Cells...))
			}
		}
	}
	tidy := cmp.Comparer(func(a, b string) bool { return slices.Equal(strings.Fields(a), strings.Fields(b)) })
	if diff := cmp.Diff(want, doc.rows, tidy); diff != "" {
		return []string{"cells (-want +got):\n" + diff}
	}
	return nil
}

// readHTML wants a page that asks for nothing and takes no other style than its own.
func readHTML(out []byte) (wrong []string) {
	doc := elements(out,
		[]string{"html", "head", "meta", "title", "style", "body", "main", "header", "h1", "h2", "h3", "span", "p", "section", "details", "summary", "table", "thead", "tbody", "tr", "th", "td", "code", "pre", "footer", "dl", "div", "dt", "dd"},
		[]string{"class", "data-label", "lang", "charset", "http-equiv", "content", "name"})
	wrong = doc.wrong
	if len(doc.style) != 1 {
		return append(wrong, fmt.Sprintf("%d styles", len(doc.style)))
	}
	digest := sha256.Sum256([]byte(doc.style[0]))
	want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(digest[:]) + "'; base-uri 'none'; form-action 'none'"
	if doc.csp != want {
		wrong = append(wrong, "content security policy "+doc.csp)
	}
	for _, reach := range []string{"url(", "@import", "src=", "href=", "<script", "http://", "https://"} {
		if strings.Contains(doc.style[0], reach) {
			wrong = append(wrong, "the style reaches out: "+reach)
		}
	}
	return wrong
}
