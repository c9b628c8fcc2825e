package supervise

import (
	"testing"

	"github.com/buildcage/buildcage/internal/cage/vertex"
)

func TestLikeness(t *testing.T) {
	for _, tc := range []struct {
		name, command string
		want          likeness
	}{
		{"[a 2/3] RUN npm  ci", "npm ci", certain},
		{"[a 2/3] RUN npm ci", "npm cit", unlike},
		{"[a 2/3] COPY . .", "COPY . .", unlike},
		{`[2/2] RUN ["/ask", "-wait","1s", "a b"]`, "/ask -wait 1s 'a b'", certain},
		{`[2/2] RUN ["/ask", "x"]`, "/ask y", unlike},
		{"[2/2] RUN curl https://a.example/v1.2", "curl https://$HOST/v${VERSION}", alike},
		{"[2/2] RUN curl https://a.example/v1.2", "curl https://$HOST/w${VERSION}", unlike},
		{"[2/2] RUN echo  ", "echo $NOTHING", alike},
		{"[2/2] RUN <<EOF (npm ci)", "npm ci\nnpm test", vague},
	} {
		if got := likenessOf(vertex.Vertex{Name: tc.name}, tc.command); got != tc.want {
			t.Errorf("%q and %q: %d, want %d", tc.name, tc.command, got, tc.want)
		}
	}
}

func TestMost(t *testing.T) {
	pending := []vertex.Vertex{
		{Name: "[2/2] RUN echo one", Digest: "1"}, {Name: "[2/2] RUN <<EOF (x)", Digest: "2"}, {Name: "[3/3] RUN echo $X", Digest: "3"},
	}
	for command, want := range map[string]string{"echo one": "1", "echo $X": "3", "x": "2", "y\nz": "2"} {
		if got := most(pending, command); len(got) != 1 || got[0].Digest != want {
			t.Errorf("%q: %v, want %s", command, got, want)
		}
	}
}
