// Command sbom lists what a buildcage program contains, as SPDX 2.3 JSON: the
// modules that it is linked from and, in the cage image that it carries, every
// program with the modules of its own. All of it is read from the bytes
// themselves, nothing from the tree but the image that was embedded.
//
//	go run ./scripts/sbom PROGRAM DOCUMENT
package main

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/buildcage/buildcage/embed/artifact"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: sbom PROGRAM DOCUMENT")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], filepath.Join("embed", "cage")); err != nil {
		fmt.Fprintf(os.Stderr, "sbom: error: %v\n", err)
		os.Exit(1)
	}
}

func run(program, document, cages string) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return fmt.Errorf("reading the modules of %s: %w", filepath.Base(program), err)
	}
	l := newList("buildcage-" + setting(info, "GOOS") + "-" + setting(info, "GOARCH"))
	root := l.add("buildcage", "", "")
	l.describe(root)
	l.modules(root, info)
	if err := l.cage(root, os.DirFS(filepath.Join(cages, setting(info, "GOARCH")))); err != nil {
		return err
	}
	out, err := os.Create(document)
	if err != nil {
		return fmt.Errorf("writing the list: %w", err)
	}
	return errors.Join(json.Write(l.doc, out, json.Indent(" ")), out.Close())
}

func setting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// list is a document under construction.
type list struct {
	doc  *v2_3.Document
	seen map[string]common.ElementID
}

func newList(name string) *list {
	return &list{seen: make(map[string]common.ElementID), doc: &v2_3.Document{
		SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName: name, DocumentNamespace: "https://buildcage.example.com/spdx/" + name,
		// Fixed, so that the same program gives the same list.
		CreationInfo: &v2_3.CreationInfo{
			Created: "1970-01-01T00:00:00Z", Creators: []common.Creator{{CreatorType: "Tool", Creator: "buildcage-sbom"}},
		},
	}}
}

// add returns the element of a package, which it makes once.
func (l *list) add(name, version, purl string) common.ElementID {
	key := name + "@" + version
	if id, ok := l.seen[key]; ok {
		return id
	}
	id := common.ElementID(fmt.Sprintf("Package-%d", len(l.seen)+1))
	l.seen[key] = id
	p := &v2_3.Package{
		PackageName: name, PackageVersion: version, PackageSPDXIdentifier: id,
		PackageDownloadLocation: "NOASSERTION", PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: "NOASSERTION", PackageCopyrightText: "NOASSERTION",
	}
	if purl != "" {
		p.PackageExternalReferences = []*v2_3.PackageExternalReference{{Category: "PACKAGE-MANAGER", RefType: "purl", Locator: purl}}
	}
	l.doc.Packages = append(l.doc.Packages, p)
	return id
}

func (l *list) relate(a common.ElementID, how string, b common.ElementID) {
	l.doc.Relationships = append(l.doc.Relationships, &v2_3.Relationship{
		RefA: common.MakeDocElementID("", string(a)), RefB: common.MakeDocElementID("", string(b)), Relationship: how,
	})
}

func (l *list) describe(root common.ElementID) { l.relate("DOCUMENT", "DESCRIBES", root) }

// modules adds what a Go program is linked from. One that comes from a module of
// somebody else's is of that module: a scanner looks it up by its name.
func (l *list) modules(of common.ElementID, info *debug.BuildInfo) {
	version := strings.TrimPrefix(info.GoVersion, "go")
	l.relate(of, "CONTAINS", l.add("stdlib", version, "pkg:golang/stdlib@"+version))
	linked := info.Deps
	if strings.HasPrefix(info.Main.Version, "v") && !strings.HasPrefix(info.Main.Path, "github.com/buildcage/") {
		linked = append([]*debug.Module{&info.Main}, linked...)
	}
	for _, m := range linked {
		if m.Replace != nil {
			m = m.Replace
		}
		l.relate(of, "CONTAINS", l.add(m.Path, m.Version, "pkg:golang/"+m.Path+"@"+m.Version))
	}
}

// cage adds the image of an architecture, its programs, and what is linked
// into them that is not Go.
func (l *list) cage(root common.ElementID, dir fs.FS) error {
	m, err := artifact.ReadManifest(dir)
	if err != nil {
		return err
	}
	image := l.add(artifact.Repository, strings.TrimPrefix(m.Tag, artifact.Repository+":"), "")
	l.relate(root, "CONTAINS", image)
	for _, name := range slices.Sorted(maps.Keys(m.Versions)) {
		if name != "go" && name != "caged" {
			l.relate(image, "CONTAINS", l.add(name, m.Versions[name], ""))
		}
	}
	file, err := dir.Open(artifact.ImageFile)
	if err != nil {
		return fmt.Errorf("opening the cage image: %w", err)
	}
	defer file.Close()
	z, err := zstd.NewReader(file)
	if err != nil {
		return fmt.Errorf("decompressing the cage image: %w", err)
	}
	defer z.Close()
	return l.archive(image, z)
}

// archive adds the programs in an archive, and in the archives in it: the
// image is one with its layers inside.
func (l *list) archive(image common.ElementID, r io.Reader) error {
	for files := tar.NewReader(r); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the cage image: %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(files)
		if err != nil {
			return fmt.Errorf("reading %s of the cage image: %w", h.Name, err)
		}
		if len(data) > 262 && string(data[257:262]) == "ustar" {
			if err := l.archive(image, bytes.NewReader(data)); err != nil {
				return err
			}
			continue
		}
		info, err := buildinfo.Read(bytes.NewReader(data))
		if err != nil {
			continue // no Go program
		}
		program := l.add(path.Base(h.Name), "in "+artifact.Repository, "")
		l.relate(image, "CONTAINS", program)
		l.modules(program, info)
	}
}
