package generator

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// parsePins reads lock.txt: entries as pip takes them with --require-hashes, each a line
// NAME==VERSION and, below it and indented, its hashes.
func parsePins(texts []string) (*lockPart, error) {
	part := newLockPart()
	name := ""
	for line := range strings.Lines(texts[0]) {
		if !strings.HasPrefix(line, " ") {
			first, rest, ok := strings.Cut(line, "==")
			version, more, _ := strings.Cut(rest, " ")
			if !ok || !strings.HasSuffix(more, "\\\n") || part.pins[first] != "" {
				return nil, fmt.Errorf("lock.txt: want NAME==VERSION once, and hashes: %q", line)
			}
			name = first
			part.versions[name], part.direct[name] = version, true
		}
		part.pins[name] += line
	}
	return part, nil
}

// pinned returns the name by which a lock has what is asked for, which may be with an
// extra: name[extra].
func pinned(name string) string {
	name, _, _ = strings.Cut(name, "[")
	return name
}

// joinPins returns requirements.lock.
func joinPins(all *lockPart, _ string) [][]byte {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all.pins)) {
		out.WriteString(all.pins[name])
	}
	if out.Len() == 0 {
		return nil
	}
	return [][]byte{[]byte(out.String())}
}
