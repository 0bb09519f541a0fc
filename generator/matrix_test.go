package generator

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// combinations returns a plan for each valid combination of choices by the
// names of its choices.
func combinations(t *testing.T) map[string]*Plan {
	t.Helper()
	plans := map[string]*Plan{}
	for plan := range goStack(t).Combinations("my-app", testVersion) {
		plans[strings.ReplaceAll(strings.Join(plan.active(), ","), "/", "=")] = plan
	}
	return plans
}

var goldenName = regexp.MustCompile(`\bdemo\b`)

// TestMatrix renders and checks every valid combination, twice: the same
// answers give the same bytes.
func TestMatrix(t *testing.T) {
	t.Parallel()
	for name, plan := range combinations(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, err := Generate(plan)
			if err != nil {
				t.Fatal(err)
			}
			second, err := Generate(plan)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(first, second); diff != "" {
				t.Errorf("rendered twice (-first +second):\n%s", diff)
			}
			for _, file := range first {
				// The goldens are called demo; a template that says so was not filled in.
				if at := goldenName.FindIndex(file.Data); at != nil {
					line := 1 + bytes.Count(file.Data[:at[0]], []byte("\n"))
					t.Errorf("%s:%d: says demo in a project called my-app", file.Path, line)
				}
			}
		})
	}
}

// TestMatrixBuilds builds and vets every combination as its owner first would:
// offline, with go.mod and go.sum as rendered. It also holds that these are
// exactly what go mod tidy would make.
func TestMatrixBuilds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	t.Parallel()
	for name, plan := range combinations(t) {
		t.Run(name, func(t *testing.T) {
			tree, err := Generate(plan)
			if err != nil {
				t.Fatal(err)
			}
			dir := written(t, tree)
			goTool(t, dir, nil, "mod", "download") // primes the module cache
			clean := []string{"GOPROXY=off", "GOFLAGS=-mod=readonly -buildvcs=false"}
			goTool(t, dir, clean, "build", "-o", t.TempDir(), "./...")
			goTool(t, dir, clean, "vet", "./...")
			goTool(t, dir, nil, "mod", "tidy", "-diff")
		})
	}
}
