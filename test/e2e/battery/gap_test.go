package battery

import (
	"os"
	"strings"
	"testing"
)

// TestGapsAreDocumented keeps the threat model honest: what a case pins as not
// prevented is said there, in the same words.
func TestGapsAreDocumented(t *testing.T) {
	data, err := os.ReadFile("../../../docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	text := words(string(data))
	gaps := 0
	cases, _ := Load(".") // what does not parse is somebody else's failure
	for _, c := range cases {
		if c.Gap == "" {
			continue
		}
		gaps++
		if !strings.Contains(text, words(c.Gap)) {
			t.Errorf("docs/threat-model.md does not say what %s says: %s", c.ID, c.Gap)
		}
	}
	if gaps == 0 {
		t.Error("no case has a gap")
	}
}

// words is a text without its line breaks and emphasis.
func words(text string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(text, "*", "")), " ")
}
