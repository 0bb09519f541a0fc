package verify

import (
	"slices"
	"sync"
)

// staticParts read the source. They see types, so neither an import under
// another name nor an alias hides anything from them.
var staticParts = []part{
	{"NP14", "source", func(t *T) { wantNoFinding(t, "NP14") }},
	{"NP15", "source", func(t *T) { wantNoFinding(t, "NP15") }},
	{"NP03", "source", func(t *T) { wantNoFinding(t, "NP03") }},
}

// static is the result of the static checks, made once for all rules.
var static struct {
	sync.Once
	loaded   bool // false when the one who loaded it failed
	findings []finding
	allowed  []Exception
}

func wantNoFinding(t *T, rule string) {
	static.Do(func() {
		static.findings, static.allowed = loadSource(t, nil, "./...").check()
		static.loaded = true
	})
	if !static.loaded {
		t.Fatal("the source could not be loaded")
	}
	for _, f := range static.findings {
		if f.rule == rule {
			t.Errorf("%v", f)
		}
	}
	outcomes.Lock()
	defer outcomes.Unlock()
	for _, e := range static.allowed {
		if e.Rule == rule && !slices.Contains(outcomes.exceptions, e) {
			outcomes.exceptions = append(outcomes.exceptions, e)
		}
	}
}
