package httpapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// echo answers with the JSON that it reads and a number from its query.
func echo(s *Server) http.Handler {
	return s.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Title string }
		n, err := queryInt(r, "n", 7, 1, 9)
		if err == nil {
			err = readJSON(r, &body)
		}
		if err = answerWith(w, []any{body.Title, n}, err); err != nil {
			s.problem(w, r, err)
		}
	}))
}

func TestJSON(t *testing.T) {
	t.Parallel()
	handler := echo(newServer(t, nowhere, io.Discard))
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
		code         string
	}{
		{"/", `{"title": `, 400, "bad_json"},
		{"/", ``, 400, "bad_json"},
		{"/", `[]`, 400, "bad_json"},
		{"/", `{"title": "x"} {}`, 400, "bad_json"},
		{"/", `{"title": "x", "more": 5}`, 400, "bad_json"},
		{"/", `{"title": "` + strings.Repeat("x", 2000) + `"}`, 413, "body_too_large"},
		{"/?n=0", ``, 400, "bad_query"},
		{"/?n=10", ``, 400, "bad_query"},
		{"/?n=many", ``, 400, "bad_query"},
	} {
		p := wantProblem(t, do(handler, "POST", bad.target, bad.body), bad.status, bad.code)
		if (len(p.Fields) == 1 && p.Fields[0].Field == "n") != (bad.code == "bad_query") {
			t.Errorf("%s %s: fields %v", bad.target, bad.body, p.Fields)
		}
	}
	slow := httptest.NewRecorder()
	handler.ServeHTTP(slow, httptest.NewRequest("POST", "/", iotest.ErrReader(os.ErrDeadlineExceeded)))
	wantProblem(t, slow.Result(), 408, "slow_body")
}
