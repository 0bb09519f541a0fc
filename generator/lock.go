package generator

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// A layer's part of go.mod and go.sum.
const (
	lockModFile = "lock.mod"
	lockSumFile = "lock.sum"
)

// A lockPart is base's go.mod and go.sum, or what one layer changes in them. go
// generate makes it; the versions of what layers import are those of stack.json.
type lockPart struct {
	goVersion string            // of base's
	versions  map[string]string // by module path
	direct    map[string]bool   // the modules that are imported, and not only needed by others
	sums      []string          // lines of go.sum
	unneeded  []string          // lines of base's, whose versions give way to newer ones here
}

// A LockError says that a part of a lock is missing or older than stack.json.
type LockError struct{ Reason string }

func (e *LockError) Error() string {
	return e.Reason + ": run go generate ./generator"
}

// readLockPart returns the layer's part, or nil where it has none.
func readLockPart(files fs.FS) (part *lockPart, err error) {
	mod, modErr := fs.ReadFile(files, lockModFile)
	sum, sumErr := fs.ReadFile(files, lockSumFile)
	if errors.Is(modErr, fs.ErrNotExist) && errors.Is(sumErr, fs.ErrNotExist) {
		return part, nil
	}
	if err := errors.Join(modErr, sumErr); err != nil {
		return nil, err
	}
	parsed, err := modfile.Parse(lockModFile, mod, nil)
	if err != nil {
		return nil, err
	}
	part = &lockPart{versions: map[string]string{}, direct: map[string]bool{}}
	if parsed.Go != nil {
		part.goVersion = parsed.Go.Version
	}
	for _, require := range parsed.Require {
		part.versions[require.Mod.Path] = require.Mod.Version
		part.direct[require.Mod.Path] = !require.Indirect
	}
	for line := range strings.Lines(string(sum)) {
		line, unneeded := strings.CutPrefix(strings.TrimSpace(line), "- ")
		switch {
		case len(strings.Fields(line)) != 3:
			return nil, fmt.Errorf("%s: malformed line %q", lockSumFile, line)
		case unneeded:
			part.unneeded = append(part.unneeded, line)
		default:
			part.sums = append(part.sums, line)
		}
	}
	return part, nil
}

// lockFiles returns go.mod and go.sum, put together from the parts of a project's
// layers, or nothing where there is none.
func lockFiles(parts []*lockPart, modulePath string) []File {
	all := &lockPart{versions: map[string]string{}, direct: map[string]bool{}}
	for _, part := range parts {
		all.goVersion = cmp.Or(all.goVersion, part.goVersion)
		for path, version := range part.versions {
			all.versions[path] = version
			all.direct[path] = all.direct[path] || part.direct[path]
		}
		all.sums = append(all.sums, part.sums...)
		all.unneeded = append(all.unneeded, part.unneeded...)
	}
	if all.goVersion == "" {
		return nil
	}
	return []File{
		{Path: "go.mod", Mode: 0o644, Data: all.mod(modulePath), Layer: "lock"},
		{Path: "go.sum", Mode: 0o644, Data: all.sum(), Layer: "lock"},
	}
}

// mod returns go.mod in the form that go mod tidy gives it.
func (p *lockPart) mod(modulePath string) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "module %s\n\ngo %s\n", modulePath, p.goVersion)
	for _, block := range []struct {
		direct bool
		mark   string
	}{{true, ""}, {false, " // indirect"}} {
		var lines []string
		for _, path := range slices.Sorted(maps.Keys(p.versions)) {
			if p.direct[path] == block.direct {
				lines = append(lines, path+" "+p.versions[path]+block.mark)
			}
		}
		switch len(lines) {
		case 0:
		case 1:
			fmt.Fprintf(&out, "\nrequire %s\n", lines[0])
		default:
			fmt.Fprintf(&out, "\nrequire (\n\t%s\n)\n", strings.Join(lines, "\n\t"))
		}
	}
	return out.Bytes()
}

// sum returns go.sum. Where parts have the content of several versions of a module,
// the build takes the newest and no other: minimal version selection.
func (p *lockPart) sum() []byte {
	lines, newest := map[module.Version]string{}, map[string]string{}
	for _, line := range p.sums {
		if slices.Contains(p.unneeded, line) {
			continue
		}
		fields := strings.Fields(line)
		of := module.Version{Path: fields[0], Version: fields[1]}
		lines[of] = line
		if isContent(of) && semver.Compare(of.Version, newest[of.Path]) > 0 {
			newest[of.Path] = of.Version
		}
	}
	for of := range maps.Clone(lines) {
		if isContent(of) && of.Version != newest[of.Path] {
			delete(lines, of)
			delete(lines, module.Version{Path: of.Path, Version: of.Version + "/go.mod"})
		}
	}
	all := slices.Collect(maps.Keys(lines))
	module.Sort(all)
	var out bytes.Buffer
	for _, of := range all {
		out.WriteString(lines[of] + "\n")
	}
	return out.Bytes()
}

// isContent tells the hash of a module's content from that of its go.mod alone.
func isContent(of module.Version) bool { return !strings.HasSuffix(of.Version, "/go.mod") }
