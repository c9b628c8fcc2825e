package report

import (
	"bytes"
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
)

func readJSON(out []byte) []string {
	var r Report
	if err := json.Unmarshal(out, &r); err != nil {
		return []string{err.Error()}
	}
	return nil
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
