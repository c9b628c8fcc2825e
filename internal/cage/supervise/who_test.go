package supervise

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/cage/control"
	"github.com/buildcage/buildcage/internal/cage/vertex"
	"github.com/buildcage/buildcage/internal/policy"
)

func TestIdentify(t *testing.T) {
	const env = "--mount=type=secret,id=t,env=T "
	for name, tc := range map[string]struct {
		secrets []string
		pending []string
		want    policy.Step // without the command
	}{
		"one":                    {nil, []string{"[a 2/3] RUN npm  ci", "[b 2/3] RUN make"}, policy.Step{Stage: "a"}},
		"two stages":             {nil, []string{"[a 2/3] RUN npm ci", "[b 2/3] RUN npm ci"}, policy.Step{}},
		"mounted secret":         {[]string{"/run/secrets/x"}, []string{"[a 2/3] RUN npm ci"}, policy.Step{Stage: "a", Secrets: true}},
		"secret variable":        {nil, []string{"[a 2/3] RUN " + env + "npm ci"}, policy.Step{Stage: "a", Secrets: true}},
		"another's":              {nil, []string{"[a 2/3] RUN npm ci", "[b 2/3] RUN " + env + "make"}, policy.Step{Stage: "a"}},
		"one of two has it":      {nil, []string{"[a 2/3] RUN npm ci", "[a 3/3] RUN " + env + "npm ci"}, policy.Step{Stage: "a", Secrets: true, Undisclosed: true}},
		"written in another way": {nil, []string{"[a 2/3] RUN " + env + "<<EOF (npm ci)"}, policy.Step{Undisclosed: true}},
		"unknown, nobody has":    {nil, []string{"[a 2/3] RUN make"}, policy.Step{}},
		"nothing heard of yet":   {nil, nil, policy.Step{Undisclosed: true}},
	} {
		t.Run(name, func(t *testing.T) {
			var pending []vertex.Vertex
			for _, p := range tc.pending {
				pending = append(pending, vertex.Vertex{Name: p})
			}
			got, _ := identify(control.Start{Command: "npm ci", Secrets: tc.secrets}, pending)
			tc.want.Command = "npm ci"
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}
