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
	{"NP24", "source", func(t *T) { wantNoFinding(t, "NP24") }},
}

// static is the module's source and what is wrong with it, looked at once for
// all rules.
var static struct {
	sync.Once
	source   *source // nil when the one who loaded it failed
	findings []finding
	allowed  []Exception
}

func owned(t *T) *source {
	t.Helper()
	static.Do(func() {
		s := loadSource(t, nil, "./...")
		static.findings, static.allowed = s.check()
		static.source = s
	})
	if static.source == nil {
		t.Fatal("the source could not be loaded")
	}
	return static.source
}

func wantNoFinding(t *T, rule string) {
	owned(t)
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
