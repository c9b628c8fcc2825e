package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// schema is as much of JSON Schema as docs/schema uses. A keyword that it
// doesn't know fails the test, so that nothing is taken as checked that isn't.
type schema map[string]any

var keywords = []string{"$schema", "$id", "$ref", "$defs", "title", "description", "type", "const", "enum", "required",
	"properties", "additionalProperties", "items", "minimum", "maximum", "format"}

func readSchema(t *testing.T) schema {
	t.Helper()
	data, err := os.ReadFile("../../docs/schema/report.v1.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// check returns what is wrong with v. A property that the schema doesn't
// describe is wrong here, although readers pass over it.
func (s schema) check(root schema, path string, v any) (wrong []string) {
	bad := func(format string, args ...any) {
		wrong = append(wrong, path+": "+fmt.Sprintf(format, args...))
	}
	if ref, ok := s["$ref"].(string); ok {
		def, ok := root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
		if !ok {
			bad("no definition %s", ref)
		}
		return append(wrong, schema(def).check(root, path, v)...)
	}
	for k := range s {
		if !slices.Contains(keywords, k) {
			bad("keyword %s", k)
		}
	}
	if c, ok := s["const"]; ok && c != v {
		bad("%v is not %v", v, c)
	}
	if e, ok := s["enum"].([]any); ok && !slices.Contains(e, v) {
		bad("%v is none of %v", v, e)
	}
	if typ := s["type"]; typ != nil && !isType(typ, v) {
		bad("%T is no %v", v, typ)
		return wrong
	}
	switch v := v.(type) {
	case float64:
		if m, ok := s["minimum"].(float64); ok && v < m {
			bad("%v is below %v", v, m)
		}
		if m, ok := s["maximum"].(float64); ok && v > m {
			bad("%v is above %v", v, m)
		}
	case string:
		if _, err := time.Parse(time.RFC3339, v); err != nil && s["format"] == "date-time" {
			bad("%q is no time", v)
		}
	case []any:
		items, _ := s["items"].(map[string]any)
		for i, item := range v {
			wrong = append(wrong, schema(items).check(root, fmt.Sprintf("%s[%d]", path, i), item)...)
		}
	case map[string]any:
		wrong = append(wrong, s.checkObject(root, path, v)...)
	}
	return wrong
}

func (s schema) checkObject(root schema, path string, v map[string]any) (wrong []string) {
	required, _ := s["required"].([]any)
	for _, name := range required {
		if _, ok := v[name.(string)]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s: no %s", path, name))
		}
	}
	properties, _ := s["properties"].(map[string]any)
	for name, value := range v {
		sub, ok := properties[name].(map[string]any)
		if !ok {
			sub, ok = s["additionalProperties"].(map[string]any)
		}
		if !ok {
			wrong = append(wrong, fmt.Sprintf("%s.%s is not in the schema", path, name))
			continue
		}
		wrong = append(wrong, schema(sub).check(root, path+"."+name, value)...)
	}
	return wrong
}

func isType(typ, v any) bool {
	if list, ok := typ.([]any); ok {
		return slices.ContainsFunc(list, func(t any) bool { return isType(t, v) })
	}
	switch v := v.(type) {
	case nil:
		return typ == "null"
	case bool:
		return typ == "boolean"
	case string:
		return typ == "string"
	case float64:
		return typ == "number" || typ == "integer" && v == float64(int64(v))
	case []any:
		return typ == "array"
	}
	_, object := v.(map[string]any)
	return object && typ == "object"
}

func TestSchema(t *testing.T) {
	s := readSchema(t)
	for name, sc := range scenarios() {
		var b bytes.Buffer
		if err := JSON(&b, sc.run(t)); err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(b.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		for _, wrong := range s.check(s, name, v) {
			t.Error(wrong)
		}
	}
}

// The validator above can fail.
func TestSchemaRefuses(t *testing.T) {
	s := readSchema(t)
	var b bytes.Buffer
	if err := JSON(&b, scenarios()["hostile"].run(t)); err != nil {
		t.Fatal(err)
	}
	for old, with := range map[string]string{
		`"blocked",`:                   `"fine",`,
		`"port": 443`:                  `"port": 65536`,
		`"dns_only": [`:                `"dns_onlx": [`,
		`"connections": 2`:             `"connections": "2"`,
		`"started": "2026`:             `"started": "x2026`,
		`"schema": "buildcage.report/`: `"schema": "`,
		`"exit": 0`:                    `"exit": 0.5`,
	} {
		var v any
		text := strings.Replace(b.String(), old, with, 1)
		if err := json.Unmarshal([]byte(text), &v); err != nil || text == b.String() {
			t.Fatal(old, err)
		}
		if len(s.check(s, "report", v)) == 0 {
			t.Errorf("%s instead of %s is valid", with, old)
		}
	}
}
