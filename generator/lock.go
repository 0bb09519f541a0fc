package generator

import (
	"cmp"
	"errors"
	"io/fs"
	"maps"
)

// A lockKind is a way to pin dependencies.
type lockKind struct {
	parts []string // the files of a layer that are its part
	makes []string // the files of a project that parts become
	parse func(texts []string) (*lockPart, error)
	join  func(all *lockPart, self string) [][]byte // the content of makes, or nil where there is nothing to pin
}

// lockKinds are all there are, by the name that stack.json gives them.
var lockKinds = map[string]lockKind{
	"":                  {},
	"go.mod":            {[]string{"lock.mod", "lock.sum"}, []string{"go.mod", "go.sum"}, parseMod, joinMod},
	"requirements.lock": {[]string{"lock.txt"}, []string{"requirements.lock"}, parsePins, joinPins},
}

// files returns the lock of a project of these parts, whose name among what it depends
// on is self.
func (k lockKind) files(parts []*lockPart, self string) (files []File) {
	all := newLockPart()
	for _, part := range parts {
		for name, version := range part.versions {
			all.versions[name] = version
			all.direct[name] = all.direct[name] || part.direct[name]
		}
		all.goVersion = cmp.Or(all.goVersion, part.goVersion)
		all.sums, all.unneeded = append(all.sums, part.sums...), append(all.unneeded, part.unneeded...)
		maps.Copy(all.pins, part.pins)
	}
	if len(parts) == 0 {
		return nil
	}
	for i, data := range k.join(all, self) {
		files = append(files, File{Path: k.makes[i], Mode: 0o644, Data: data, Layer: "lock"})
	}
	return files
}

// readPart returns the layer's part, or nil where it has none.
func (k lockKind) readPart(files fs.FS) (part *lockPart, err error) {
	texts, errs, missing := make([]string, len(k.parts)), make([]error, len(k.parts)), 0
	for i, name := range k.parts {
		text, err := fs.ReadFile(files, name)
		if errors.Is(err, fs.ErrNotExist) {
			missing++
		}
		texts[i], errs[i] = string(text), err
	}
	if missing == len(k.parts) {
		return part, nil
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return k.parse(texts)
}
