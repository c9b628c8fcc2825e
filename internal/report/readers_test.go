package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	gmhtml "github.com/yuin/goldmark/renderer/html"
	"golang.org/x/net/html"
)

func readJSON(out []byte) []string {
	var r Report
	if err := json.Unmarshal(out, &r); err != nil {
		return []string{err.Error()}
	}
	return nil
}

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
	for _, cells := range doc.rows {
		if cells != doc.rows[0] && !slices.Contains([]int{4, 5, 6, 7, 8}, cells) {
			wrong = append(wrong, fmt.Sprintf("row of %d cells", cells))
		}
	}
	want := 0
	for _, s := range newPage(r, false, 1000).Sections {
		for _, b := range s.Blocks {
			if len(b.Rows) > 0 {
				want += len(b.Rows) + 1
			}
		}
	}
	if len(doc.rows) != want {
		wrong = append(wrong, fmt.Sprintf("%d rows, want %d", len(doc.rows), want))
	}
	if source := regexp.MustCompile("(`+)[^`].*?[^`]?(`+)").ReplaceAllString(string(out), ""); strings.Contains(source, "@") {
		wrong = append(wrong, "an at sign outside of code")
	}
	return append(append(wrong, doc.wrong...), strange(string(out))...)
}

type document struct {
	wrong []string
	rows  []int // cells of each
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
		case html.EndTagToken:
			inStyle = false
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
	case "tr":
		doc.rows = append(doc.rows, 0)
	case "td", "th":
		doc.rows[len(doc.rows)-1]++
	}
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

// officialSARIF is the schema as OASIS published it; see testdata/schema/README.md.
var officialSARIF = sync.OnceValues(func() (*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	return c.Compile("testdata/schema/sarif-schema-2.1.0.json")
})

func readSARIF(t *testing.T, out []byte) (wrong []string) {
	t.Helper()
	schema, err := officialSARIF()
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(out))
	if err != nil {
		return []string{err.Error()}
	}
	if err := schema.Validate(v); err != nil {
		wrong = append(wrong, err.Error())
	}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			wrong = append(wrong, strange(v)...)
			if strings.Contains(v, "](") {
				wrong = append(wrong, "a link: "+v)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(v)
	return append(wrong, strange(string(out))...)
}

// readJUnit wants well-formed XML of the known elements, totals that are right
// and names that are told apart.
func readJUnit(out []byte) (wrong []string) {
	elements := []string{"testsuites", "testsuite", "testcase", "failure", "error", "system-out"}
	d := xml.NewDecoder(bytes.NewReader(out))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return append(wrong, err.Error())
		}
		switch token := token.(type) {
		case xml.StartElement:
			if !slices.Contains(elements, token.Name.Local) {
				wrong = append(wrong, "element "+token.Name.Local)
			}
			for _, a := range token.Attr {
				wrong = append(wrong, strange(a.Value)...)
			}
		case xml.CharData:
			wrong = append(wrong, strange(string(token))...)
		case xml.Comment, xml.Directive:
			wrong = append(wrong, "a comment or directive")
		}
	}
	var all junitSuites
	if err := xml.Unmarshal(out, &all); err != nil {
		return append(wrong, err.Error())
	}
	tests, failures := 0, 0
	seen := make(map[string]bool)
	for _, s := range all.Suites {
		for _, c := range s.Cases {
			tests++
			if c.Failure != nil {
				failures++
			}
			if seen[c.Class+"\n"+c.Name] {
				wrong = append(wrong, "twice: "+c.Name)
			}
			seen[c.Class+"\n"+c.Name] = true
		}
	}
	if tests != all.Tests || failures != all.Failures {
		wrong = append(wrong, fmt.Sprintf("%d cases and %d failures, said %d and %d", tests, failures, all.Tests, all.Failures))
	}
	return wrong
}

var annotation = regexp.MustCompile(`^::(error|warning|notice) ((?:file|line|title)=[^:,\r\n]*(?:,(?:file|line|title)=[^:,\r\n]*)*)::([^\r\n]*)$`)

// readGitHub reads it as a runner does: one command a line and nothing else.
func readGitHub(out []byte) (wrong []string) {
	levels := make(map[string]int)
	for line := range strings.Lines(string(out)) {
		m := annotation.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			wrong = append(wrong, "no annotation: "+line)
			continue
		}
		levels[m[1]]++
		unescape := strings.NewReplacer("%0D", "\r", "%0A", "\n", "%3A", ":", "%2C", ",", "%25", "%")
		for _, text := range append(strings.Split(m[2], ","), m[3]) {
			for _, c := range unescape.Replace(text) {
				if (c < 0x20 || c > 0x7e) && !strings.ContainsRune(own, c) {
					wrong = append(wrong, fmt.Sprintf("character %U in %q", c, text))
				}
			}
		}
	}
	for level, n := range levels {
		if n > annotationLimit {
			wrong = append(wrong, fmt.Sprintf("%d annotations of level %s", n, level))
		}
	}
	return wrong
}
