package generator

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRoutersAnswerAlike sends the same requests to services with each choice of
// router, with and without extras, and wants the same bytes back from all.
func TestRoutersAnswerAlike(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	t.Parallel()
	suite, err := os.ReadFile("testdata/router/router_test.go.txt")
	if err != nil {
		t.Fatal(err)
	}
	router, ok := goStack(t).Option("router")
	if !ok {
		t.Fatal("no option router")
	}
	for _, extras := range []string{"with=notes", "with="} {
		var first []string
		for _, choice := range router.ChoiceNames() {
			dir := written(t, generate(t, goStack(t), answers("name=demo", "router="+choice, extras)))
			if err := os.WriteFile(filepath.Join(dir, "internal", "httpapi", "router_test.go"), suite, 0o644); err != nil {
				t.Fatal(err)
			}
			written := filepath.Join(t.TempDir(), "answers")
			goTool(t, dir, []string{"GOFLAGS=-trimpath -buildvcs=false", "ROUTER_ANSWERS=" + written}, "test", "-run=^TestRouter$", "./internal/httpapi")
			data, err := os.ReadFile(written)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Split(string(data), "\n\n--> ")
			if first == nil {
				first = got
			}
			if diff := cmp.Diff(first, got); diff != "" {
				t.Errorf("%s, %s (-%s +%s):\n%s", choice, extras, router.ChoiceNames()[0], choice, diff)
			}
		}
		t.Logf("%s: %d answers", extras, len(first))
	}
}
