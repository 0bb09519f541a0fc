package generator_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// supabaseMutations open a table to Supabase's public API, or shut the service out. The default project cannot
// notice: it takes a server where one may make roles.
var supabaseMutations = []mutation{
	{name: "the example's table is open to the public API", edits: []edit{
		{firstFile, "alter table notes enable row level security;\n", ""},
	}},
	{name: "the record of the migrations is open to the public API", edits: []edit{
		{firstFile, "alter table goose_db_version enable row level security;\n", ""},
	}},
	{name: "a policy lets everybody in", edits: []edit{
		{firstFile, "on notes using (current_user not in ('anon', 'authenticated'))", "on notes using (true)"},
	}},
	{name: "a service that does not migrate sees no rows", edits: []edit{
		{firstFile, "create policy not_the_api on notes using (current_user not in ('anon', 'authenticated'));\n", ""},
	}},
}

const firstFile = "migrations/00001_create_notes.sql"

// TestMutationsOfSupabase wants the tests for those who change the engine to notice each.
func TestMutationsOfSupabase(t *testing.T) {
	if filter := os.Getenv("MUTATIONS"); filter != "ci" && filter != "supabase" {
		t.Skip("to run it: MUTATIONS=supabase go test -run TestMutationsOfSupabase ./generator")
	}
	dir := filepath.Join(t.TempDir(), "demo")
	if out, err := goIn(t, "..", "run", "./cmd/nullpool", "new", "demo", "--yes", "--with", "notes,engine-tests", "--dir", dir); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	noticed := func() bool {
		out, err := goIn(t, dir, "test", "-count=1", "-run=TestClosedToTheAPI$", "./internal/migrate")
		if strings.Contains(out, "build failed") || strings.Contains(out, "no tests to run") {
			t.Fatal(out)
		}
		return err != nil
	}
	if noticed() {
		t.Fatal("it fails without any edit")
	}
	for _, m := range supabaseMutations {
		undo, err := applyAll(dir, m.edits)
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
		} else if !noticed() {
			t.Errorf("%s:%s", m.name, notNoticed)
		}
		if err := undo(); err != nil {
			t.Fatal(err)
		}
	}
}
