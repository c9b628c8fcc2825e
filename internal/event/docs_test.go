package event

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

// Every reason has a row with a sentence, and every row a reason.
func TestReasonsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "## Reasons")
	table, _, _ = strings.Cut(table, "\n## ")
	rows := make(map[string]string)
	for _, line := range strings.Split(table, "\n") {
		if cells := strings.Split(line, "|"); len(cells) == 4 && strings.Contains(cells[1], "`") {
			rows[strings.Trim(cells[1], " `")] = strings.TrimSpace(cells[2])
		}
	}
	for _, reason := range reasons(t) {
		if !strings.HasSuffix(rows[reason], ".") {
			t.Errorf("reason %q: no sentence in docs/events.md", reason)
		}
		delete(rows, reason)
	}
	for row := range rows {
		t.Errorf("docs/events.md: %q is no reason", row)
	}
}

// reasons reads the constants from the source: a list kept by hand could
// forget one.
func reasons(t *testing.T) (list []string) {
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		lit, ok := spec.Values[0].(*ast.BasicLit)
		if typ, named := spec.Type.(*ast.Ident); !ok || !named || typ.Name != "Reason" {
			t.Errorf("%s is not declared as a Reason of its own", spec.Names[0])
			return false
		}
		text, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, text)
		return false
	})
	if len(list) == 0 {
		t.Fatal("no reasons found")
	}
	return list
}
