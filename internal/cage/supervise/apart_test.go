package supervise

import "testing"

// Builds that may share steps have one policy, whichever began first.
func TestApart(t *testing.T) {
	var a apart
	policies := map[string]string{"a1": "sha256:aa", "b1": "sha256:bb", "a2": "sha256:aa", "b2": "sha256:bb", "a3": "sha256:aa"}
	marks := func(refs ...string) (all []string) {
		for _, ref := range refs {
			all = append(all, a.mark(ref))
		}
		return all
	}
	a.enter("a1", policies["a1"])
	a.enter("b1", policies["b1"])
	a.enter("a2", policies["a2"])
	if m := marks("a1", "b1", "a2"); m[0] != "" || m[1] != "buildcage-apart-bb" || m[2] != "buildcage-apart-aa" {
		t.Errorf("marks %q", m)
	}
	a.enter("b1", "sha256:cc") // a client that says it again changes nothing
	a.leave("a1")
	a.enter("b2", policies["b2"])
	a.leave("b1")
	a.leave("b2")
	a.enter("a3", policies["a3"])
	if m := marks("a1", "a2", "a3"); m[0] != "" || m[1] != "buildcage-apart-aa" || m[2] != "" {
		t.Errorf("marks %q", m)
	}
	a.leave("a2")
	a.leave("a3")
	if len(a.going) != 0 {
		t.Errorf("%d builds are left", len(a.going))
	}
}
