package httpapi

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"example.com/demo/internal/migrate"
	"example.com/demo/internal/notes"
	"example.com/demo/internal/pgtest"
	"example.com/demo/migrations"
)

func TestNotes(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	err := migrate.Run(t.Context(), migrate.Options{Connector: load(t, url).Database, FS: migrations.FS, Out: t.Output(), ConnectTimeout: time.Minute}, "up")
	if err != nil {
		t.Fatal(err)
	}
	handler := newServer(t, url).Handler()
	call := func(method, target, body string, status int, into any) *http.Response {
		t.Helper()
		response := do(handler, method, target, body)
		if response.StatusCode != status {
			t.Fatalf("%s %s: status %d, want %d", method, target, response.StatusCode, status)
		}
		if into != nil {
			if err := json.NewDecoder(response.Body).Decode(into); err != nil {
				t.Fatal(err)
			}
		}
		return response
	}
	var created, read, updated notes.Note
	target := call("POST", "/notes", `{"title": "Ünïcode", "body": "b"}`, 201, &created).Header.Get("Location")
	call("GET", target, "", 200, &read)
	if read != created || read.Title != "Ünïcode" || read.CreatedAt.IsZero() {
		t.Errorf("created %+v and read %+v", created, read)
	}
	call("PUT", target, `{"title": "new"}`, 200, &updated)
	if updated.Title != "new" || updated.Body != "" || !updated.UpdatedAt.After(created.UpdatedAt) {
		t.Errorf("updated to %+v", updated)
	}
	for range 2 {
		call("POST", "/notes", `{"title": "more"}`, 201, nil)
	}
	var first, second, empty map[string]any
	call("GET", "/notes?limit=2", "", 200, &first)
	call("GET", "/notes?limit=2&after=2", "", 200, &second)
	call("GET", "/notes?after=1000000", "", 200, &empty)
	if len(first["notes"].([]any)) != 2 || first["next"] != 2.0 || len(second["notes"].([]any)) != 1 || second["next"] != nil || empty["notes"] == nil {
		t.Errorf("pages: %v, then %v, and at the end %v", first, second, empty)
	}
	call("DELETE", target, "", 204, nil)
	for _, bad := range []struct {
		method, target, body string
		status               int
		code                 string
	}{
		{"GET", target, "", 404, "not_found"},
		{"DELETE", target, "", 404, "not_found"},
		{"PUT", target, `{"title": "x"}`, 404, "not_found"},
		{"GET", "/notes/abc", "", 404, "not_found"},
		{"GET", "/notes/+2", "", 404, "not_found"},
		{"GET", "/notes/2?fields=id", "", 400, "bad_query"},
		{"POST", "/notes?dry=1", `{"title": "x"}`, 400, "bad_query"},
		{"POST", "/notes", `{"title": ""}`, 422, "invalid_note"},
		{"GET", "/notes?limit=0", "", 400, "bad_query"},
		{"GET", "/notes?after=-1", "", 400, "bad_query"},
	} {
		wantProblem(t, do(handler, bad.method, bad.target, bad.body), bad.status, bad.code)
	}
}
