package httpapi_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/demo/internal/connect"
	"example.com/demo/internal/migrate"
	"example.com/demo/internal/notes"
	"example.com/demo/internal/pgtest"
	"example.com/demo/migrations"
)

func TestNotes(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	connector, err := connect.Parse(url, connect.Options{AllowPlaintext: true, AllowPlainAuth: true})
	if err != nil {
		t.Fatal(err)
	}
	err = migrate.Run(t.Context(), migrate.Options{Connector: connector, FS: migrations.FS, Out: t.Output(), ConnectTimeout: 1e10}, "up")
	if err != nil {
		t.Fatal(err)
	}
	server, _ := newServer(t, url)
	handler := server.Handler()
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
	response := call("POST", "/notes", `{"title": "Ünïcode", "body": "b"}`, http.StatusCreated, &created)
	call("GET", response.Header.Get("Location"), "", http.StatusOK, &read)
	if read != created || read.Title != "Ünïcode" || read.CreatedAt.IsZero() {
		t.Errorf("created %+v and read %+v", created, read)
	}
	target := fmt.Sprintf("/notes/%d", created.ID)
	call("PUT", target, `{"title": "new"}`, http.StatusOK, &updated)
	if updated.Title != "new" || updated.Body != "" || !updated.UpdatedAt.After(created.UpdatedAt) {
		t.Errorf("updated to %+v", updated)
	}
	for range 4 {
		call("POST", "/notes", `{"title": "more"}`, http.StatusCreated, nil)
	}
	var seen []int64
	for after := "0"; after != ""; {
		var page notes.Page
		call("GET", "/notes?limit=2&after="+after, "", http.StatusOK, &page)
		for _, note := range page.Notes {
			seen = append(seen, note.ID)
		}
		after = ""
		if page.Next != nil {
			after = strconv.FormatInt(*page.Next, 10)
		}
	}
	if len(seen) != 5 {
		t.Errorf("pages held the notes %v, want 5", seen)
	}
	call("DELETE", target, "", http.StatusNoContent, nil)
	for _, method := range []string{"GET", "DELETE"} {
		wantProblem(t, do(handler, method, target, ""), http.StatusNotFound, "not_found")
	}
	wantProblem(t, do(handler, "PUT", target, `{"title": "x"}`), http.StatusNotFound, "not_found")
	empty := call("GET", "/notes?after=1000000", "", http.StatusOK, nil)
	var page struct{ Notes json.RawMessage }
	if err := json.NewDecoder(empty.Body).Decode(&page); err != nil || string(page.Notes) != "[]" {
		t.Errorf("an empty page holds %s (%v), want []", page.Notes, err)
	}
}

// TestSlowBody sends a part of a body and nothing more.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	server, _ := newServer(t, nowhere)
	web := httptest.NewUnstartedServer(server.Handler())
	web.Config.ReadTimeout = 100 * time.Millisecond
	web.Start()
	defer web.Close()
	body, rest := io.Pipe()
	defer rest.Close()
	go func() { _, _ = io.WriteString(rest, `{"title": `) }()
	response, err := http.Post(web.URL+"/notes", "application/json", body)
	if err != nil {
		t.Fatal(err)
	}
	wantProblem(t, response, http.StatusRequestTimeout, "slow_body")
}

// TestBadNotes wants bad requests refused before they cost a connection.
func TestBadNotes(t *testing.T) {
	t.Parallel()
	server, _ := newServer(t, nowhere)
	tests := []struct {
		method, target, body string
		status               int
		code                 string
	}{
		{"POST", "/notes", `{"title": `, 400, "bad_json"},
		{"POST", "/notes", ``, 400, "bad_json"},
		{"POST", "/notes", `[]`, 400, "bad_json"},
		{"POST", "/notes", `{"title": "x"} {}`, 400, "bad_json"},
		{"POST", "/notes", `{"title": "x", "id": 5}`, 400, "bad_json"},
		{"POST", "/notes", `{"title": ""}`, 422, "invalid_note"},
		{"POST", "/notes", `{"title": "` + strings.Repeat("ü", notes.MaxTitle+1) + `"}`, 422, "invalid_note"},
		{"POST", "/notes", `{"title": "a\u0000b"}`, 422, "invalid_note"},
		{"POST", "/notes", `{"title": "a", "body": "a\u0000b"}`, 422, "invalid_note"},
		{"POST", "/notes", `{"title": "` + strings.Repeat("x", 2000) + `"}`, 413, "body_too_large"},
		{"GET", "/notes?limit=0", "", 400, "bad_query"},
		{"GET", "/notes?limit=many", "", 400, "bad_query"},
		{"GET", "/notes?after=-1", "", 400, "bad_query"},
		{"GET", "/notes/abc", "", 404, "not_found"},
		{"PATCH", "/notes/1", "", 405, "method_not_allowed"},
	}
	for _, test := range tests {
		p := wantProblem(t, do(server.Handler(), test.method, test.target, test.body), test.status, test.code)
		if test.status == 422 && len(p.Errors) != 1 {
			t.Errorf("%s: field errors %v", test.body, p.Errors)
		}
	}
	if dials := server.DB.Snapshot().Dials; dials != 0 {
		t.Errorf("%d dials", dials)
	}
}
