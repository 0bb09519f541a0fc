package httpapi

import (
	"cmp"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// echo answers with the JSON that it reads and a number from its query.
func echo(s *Server) http.Handler {
	return s.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Title string    `json:"title"`
			Due   time.Time `json:"due"`
		}
		query, err := readQuery(r, "n")
		n, wrong := queryInt(query, "n", 7, 1, 9)
		if err = cmp.Or(err, wrong); err == nil {
			err = readJSON(r, &body)
		}
		if err = answerWith(w, []any{body.Title, n}, err); err != nil {
			s.problem(w, r, err)
		}
	}))
}

func TestJSON(t *testing.T) {
	t.Parallel()
	handler := echo(newServer(t, nowhere))
	for target, want := range map[string]string{"/": `["ü",7]`, "/?n=9": `["ü",9]`} {
		response := do(handler, "POST", target, `{"title": "ü"} `)
		body, err := io.ReadAll(response.Body)
		if err != nil || string(body) != want+"\n" || response.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s %v (%v), want %s", target, body, response.Header, err, want)
		}
	}
	for _, bad := range []struct {
		target, body string
		status       int
		code, field  string
	}{
		{"/", `{"title": `, 400, "bad_json", ""},
		{"/", ``, 400, "bad_json", ""},
		{"/", `[]`, 400, "bad_json", ""},
		{"/", `null`, 400, "bad_json", ""},
		{"/", `{"title": "x"} {}`, 400, "bad_json", ""},
		{"/", `{"title": "\ud800\ufffd"}`, 400, "bad_json", ""},
		{"/", "{\"title\": \"\xff\"}", 400, "bad_json", ""},
		{"/", `{"title": "x", "more": 5}`, 400, "bad_json", "more"},
		{"/", `{"Title": "x"}`, 400, "bad_json", "Title"},
		{"/", `{"title": "x", "title": "x"}`, 400, "bad_json", "title"},
		{"/", `{"title": 5}`, 400, "bad_json", "title"},
		{"/", `{"title": "x", "due": "tomorrow"}`, 400, "bad_json", "due"},
		{"/", `{"title": "` + strings.Repeat("x", 2000) + `"}`, 413, "body_too_large", ""},
		{"/?n=0", ``, 400, "bad_query", "n"},
		{"/?n=10", ``, 400, "bad_query", "n"},
		{"/?n=many", ``, 400, "bad_query", "n"},
		{"/?n=%2B5", ``, 400, "bad_query", "n"},
		{"/?n=5&n=6", ``, 400, "bad_query", "n"},
		{"/?m=5", ``, 400, "bad_query", "m"},
		{"/?n=%zz", ``, 400, "bad_query", ""},
		{"/?n=5;m=6", ``, 400, "bad_query", ""},
	} {
		p := wantProblem(t, do(handler, "POST", bad.target, bad.body), bad.status, bad.code)
		if (bad.field != "" || p.Fields != nil) && (len(p.Fields) != 1 || p.Fields[0].Field != bad.field) {
			t.Errorf("%s %s: fields %v", bad.target, bad.body, p.Fields)
		}
	}
	for _, header := range []http.Header{
		{},
		{"Content-Type": {"text/json"}},
		{"Content-Type": {"application/json; charset=utf-16"}},
		{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}},
	} {
		request := httptest.NewRequest("POST", "/", strings.NewReader(`{"title": "x"}`))
		request.Header = header
		response := httptest.NewRecorder()
		handler.ServeHTTP(response, request)
		wantProblem(t, response.Result(), 415, "not_json")
	}
}
