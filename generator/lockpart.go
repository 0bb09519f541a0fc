package generator

// A lockPart is base's lock, or what one layer adds to it. go generate makes it; the
// versions of what layers require are those of stack.json.
type lockPart struct {
	versions map[string]string // of what is required, by its name
	direct   map[string]bool   // what a layer asks for, and not only what it depends on

	goVersion      string            // of base's, for go.mod
	sums, unneeded []string          // lines of go.sum: what a layer has, and what its versions make useless in base's
	pins           map[string]string // entries of requirements.lock, by name
}

func newLockPart() *lockPart {
	return &lockPart{versions: map[string]string{}, direct: map[string]bool{}, pins: map[string]string{}}
}
