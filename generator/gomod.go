package generator

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// parseMod reads lock.mod and lock.sum, in which - marks a line of base's whose version
// gives way to a newer one.
func parseMod(texts []string) (*lockPart, error) {
	parsed, err := modfile.Parse("lock.mod", []byte(texts[0]), nil)
	if err != nil {
		return nil, err
	}
	part := newLockPart()
	if parsed.Go != nil {
		part.goVersion = parsed.Go.Version
	}
	for _, require := range parsed.Require {
		part.versions[require.Mod.Path] = require.Mod.Version
		part.direct[require.Mod.Path] = !require.Indirect
	}
	for line := range strings.Lines(texts[1]) {
		line, unneeded := strings.CutPrefix(strings.TrimSpace(line), "- ")
		switch {
		case len(strings.Fields(line)) != 3:
			return nil, fmt.Errorf("lock.sum: malformed line %q", line)
		case unneeded:
			part.unneeded = append(part.unneeded, line)
		default:
			part.sums = append(part.sums, line)
		}
	}
	return part, nil
}

// joinMod returns go.mod, of the module self, and go.sum, in the form that go mod tidy
// gives them.
func joinMod(all *lockPart, self string) [][]byte {
	if all.goVersion == "" {
		return nil
	}
	return [][]byte{all.mod(self), all.sum()}
}

// mod returns go.mod.
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
