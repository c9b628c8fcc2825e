package supervise

import (
	"debug/buildinfo"
	"path/filepath"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/contract"
)

func (p *parts) versions(cli string) map[string]string {
	v := map[string]string{"cli": cli}
	if info, ok := debug.ReadBuildInfo(); ok {
		v["caged"], v["go"] = info.Main.Version, info.GoVersion
	}
	components(contract.BinDir, v)
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		v["kernel"] = unix.ByteSliceToString(uts.Release[:])
	}
	return v
}

// components adds the versions of the programs in dir that are not ours, as
// they were built: which holes a runtime has is a matter of its version.
func components(dir string, v map[string]string) {
	for name, file := range map[string]string{"buildkit": "buildkitd", "runc": "runc", "cni": "ptp"} {
		if info, err := buildinfo.ReadFile(filepath.Join(dir, file)); err == nil {
			v[name] = info.Main.Version
		}
	}
}
