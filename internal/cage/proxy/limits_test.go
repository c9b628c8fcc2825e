package proxy

import "testing"

// Whatever the limit on open files, what clients can take leaves some of it.
func TestLimitsFitOpenFiles(t *testing.T) {
	for files, want := range map[int]int{256: 16, 1024: 256, 4096: 1792, 20_000: 9375, 1 << 20: mostConns} {
		var l Limits
		l.fill(files)
		if l.Conns != want {
			t.Errorf("%d files: %d connections, want %d", files, l.Conns, want)
		}
		if l.StepConns >= l.Conns {
			t.Errorf("%d files: one step can take all of %d connections", files, l.Conns)
		}
		if used := l.Conns*connFiles + 2*l.Pipes; files >= 1024 && used > files-spareFiles/2 {
			t.Errorf("%d files: %d connections and %d pipes use %d", files, l.Conns, l.Pipes, used)
		}
	}
}

func TestLimitsKeepWhatIsSet(t *testing.T) {
	l := Limits{Conns: 7, StepConns: 7, Pipes: -1}
	l.fill(1 << 20)
	if l.Conns != 7 || l.StepConns != 7 || l.Pipes != -1 {
		t.Errorf("%+v", l)
	}
}
