package generator_test

// ownerAnswers are edits of the owner's own code that tell clients what is for nobody
// outside.
var ownerAnswers = []mutation{
	// What an error says is for nobody outside.
	{name: "an error's text by way of a variable", source: "NP24", edits: []edit{
		{handlers, "	note, err := notes.Update(r.Context(), session, id, draft)\n", `	note, err := notes.Update(r.Context(), session, id, draft)
	if err != nil {
		detail := err.Error()
		return newError(http.StatusConflict, "not_updated", detail)
	}
`},
	}},
	{name: "an error's text by way of Sprintf", source: "NP24", edits: []edit{
		{handlers, "	if err := notes.Delete(r.Context(), session, id); err != nil {\n		return err\n", `	if err := notes.Delete(r.Context(), session, id); err != nil {
		return newError(http.StatusConflict, "in_use", fmt.Sprintf("note %d cannot be deleted: %v", id, err))
`},
	}},
	{name: "an error's text by way of a helper", source: "NP24", edits: []edit{
		{handlers, "	note, err := notes.Create(r.Context(), session, draft)\n	if err != nil {\n		return err\n", `	note, err := notes.Create(r.Context(), session, draft)
	if err != nil {
		return unprocessable(err)
`},
		{handlers, "// noteID reads", `func unprocessable(err error) *Error {
	return newError(http.StatusUnprocessableEntity, "not_saved", strings.TrimPrefix(err.Error(), "ERROR: "))
}

// noteID reads`},
		imports(handlers, "strings"),
	}},
	{name: "an error's text beside a field", source: "NP24", edits: []edit{
		{handlers, "	note, err := notes.Create(r.Context(), session, draft)\n	if err != nil {\n		return err\n", `	note, err := notes.Create(r.Context(), session, draft)
	if err != nil {
		fields := append([]FieldError(nil), FieldError{"title", err.Error()})
		return &Error{http.StatusUnprocessableEntity, "invalid_note", "The note is not valid", fields}
`},
	}},
	{name: "an answer of ours is given the error's text", source: "NP24", edits: []edit{
		{problems, "	e := answer(r, err)\n", `	e := answer(r, err)
	if e.Status == http.StatusInternalServerError {
		copied := *e
		copied.Detail = err.Error()
		e = &copied
	}
`},
	}},
	{name: "the server's words by way of errors.As", source: "NP24", edits: []edit{
		code("internal/httpapi/taken.go", `
// taken says what exists already.
func taken(err error) error {
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "23505" {
		said := cmp.Or(refused.Detail, refused.Message)
		return newError(http.StatusConflict, "already_exists", said)
	}
	return err
}
`),
		{handlers, "	note, err := notes.Create(r.Context(), session, draft)\n	if err != nil {\n		return err\n", "	note, err := notes.Create(r.Context(), session, draft)\n	if err != nil {\n		return taken(err)\n"},
	}},
	{name: "an error's text in JSON of one's own", source: "NP24", edits: []edit{
		code("internal/httpapi/export.go", `
func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	err := s.DB.Run(r.Context(), nopool.TxOptions{ReadOnly: true}, func(ctx context.Context, session *nopool.Session) error {
		page, err := notes.List(ctx, session, notes.MaxLimit, 0)
		return answerWith(w, page, err)
	})
	if err != nil {
		writeJSON(w, http.StatusInternalServerError, map[string]string{"error": err.Error()})
	}
}
`),
		route(`mux.HandleFunc("GET /export", s.export)`),
	}},
	{name: "an error is printed to the response", source: "NP24", edits: []edit{
		code("internal/httpapi/export.go", `
func export(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	page, err := notes.List(r.Context(), session, notes.MaxLimit, 0)
	for _, note := range page.Notes {
		fmt.Fprintf(w, "%d\t%s\n", note.ID, note.Title)
	}
	if err != nil {
		fmt.Fprintf(w, "# incomplete: %v\n", err)
	}
	return nil
}
`),
		route(`mux.Handle("GET /export", s.InSession(export))`),
	}},
	{name: "an error in a page", source: "NP24", edits: []edit{
		{"internal/httpapi/page.go", "", `package httpapi

import (
	"html/template"
	"net/http"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/notes"
)

var page = template.Must(template.New("page").Parse("<p>{{.}}</p>"))

func (s *Server) showNote(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	note, err := notes.Get(r.Context(), session, 1)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return page.Execute(w, err)
	}
	return page.Execute(w, note.Title)
}
`},
		route(`mux.Handle("GET /page", s.InSession(s.showNote))`),
	}},
	{name: "an error by way of a buffer", source: "NP24", edits: []edit{
		{"internal/httpapi/buffer.go", "", `package httpapi

import (
	"bufio"
	"net/http"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/notes"
)

func (s *Server) bufferNote(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	out := bufio.NewWriter(w)
	note, err := notes.Get(r.Context(), session, 1)
	if err != nil {
		_, _ = out.WriteString("no note: " + err.Error())
	} else {
		_, _ = out.WriteString(note.Title)
	}
	return out.Flush()
}
`},
		route(`mux.Handle("GET /buffer", s.InSession(s.bufferNote))`),
	}},
	{name: "an error in a header", source: "NP24", edits: []edit{
		{handlers, "	page, err := notes.List(r.Context(), session, int(limit), after)\n", `	page, err := notes.List(r.Context(), session, int(limit), after)
	if err != nil {
		w.Header().Set("X-Debug", err.Error())
	}
`},
	}},

	{name: "an error in a header that is assigned", source: "NP24", edits: []edit{
		code("internal/httpapi/debug.go", `
func debugged(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	page, err := notes.List(r.Context(), session, 1, 0)
	if err != nil {
		w.Header()["X-Debug"] = []string{"failed", err.Error()}
	}
	return answerWith(w, page, err)
}
`),
		route(`mux.Handle("GET /debugged", s.InSession(debugged))`),
	}},
	{name: "an error in a header that has a name", source: "NP24", edits: []edit{
		code("internal/httpapi/explain.go", `
func explained(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	page, err := notes.List(r.Context(), session, 1, 0)
	if header := w.Header(); err != nil {
		header.Add("Warning", fmt.Sprintf("199 - %q", err))
	}
	return answerWith(w, page, err)
}
`),
		route(`mux.Handle("GET /explained", s.InSession(explained))`),
	}},
	{name: "an error's text is the code", source: "NP24", edits: []edit{
		{handlers, "	note, err := notes.Get(r.Context(), session, id)\n", `	note, err := notes.Get(r.Context(), session, id)
	if err != nil {
		return &Error{Status: http.StatusNotFound, Code: err.Error()}
	}
`},
	}},
	{name: "an error is printed for http.Error", source: "NP24", edits: []edit{
		code("internal/httpapi/export.go", `
func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	err := s.DB.Run(r.Context(), nopool.TxOptions{ReadOnly: true}, func(ctx context.Context, session *nopool.Session) error {
		page, err := notes.List(ctx, session, notes.MaxLimit, 0)
		return answerWith(w, page, err)
	})
	if err != nil {
		http.Error(w, "export: "+fmt.Sprint(err), http.StatusInternalServerError)
	}
}
`),
		route(`mux.HandleFunc("GET /export", s.export)`),
	}},
	{name: "errors' texts are collected", source: "NP24", edits: []edit{
		code("internal/httpapi/import.go", `
func importNotes(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	var drafts []notes.Draft
	if err := readJSON(r, &drafts); err != nil {
		return err
	}
	var refused []string
	for _, draft := range drafts {
		if _, err := notes.Create(r.Context(), session, draft); err != nil {
			refused = append(refused, err.Error())
			break
		}
	}
	if len(refused) > 0 {
		return newError(http.StatusConflict, "not_imported", strings.Join(refused, "; "))
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
`),
		route(`mux.Handle("POST /import", s.InSession(importNotes))`),
	}},
	{name: "an error's text in a value that is encoded", source: "NP24", edits: []edit{
		code("internal/httpapi/import.go", `
type outcome struct {
	Title string `+"`json:\"title\"`"+`
	Error string `+"`json:\"error,omitempty\"`"+`
}

func importNote(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	draft, err := readNote(r)
	if err != nil {
		return err
	}
	result := outcome{Title: draft.Title}
	if _, err := notes.Create(r.Context(), session, draft); err != nil {
		result.Error = err.Error()
	}
	writeJSON(w, http.StatusOK, result)
	return nil
}
`),
		route(`mux.Handle("POST /import", s.InSession(importNote))`),
	}},

	// The counters are for those who run the service.
	{name: "the counters on a public route", source: "NP24", edits: []edit{
		code("internal/httpapi/stats.go", `
func (s *Server) stats(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.DB.Snapshot())
}
`),
		route(`mux.HandleFunc("GET /stats", s.stats)`),
	}},
	{name: "health shows how busy it is", source: "NP24", edits: []edit{
		{health, "	writeJSON(w, http.StatusOK, map[string]string{\"status\": \"ok\"})\n", `	now := s.DB.Snapshot()
	writeJSON(w, http.StatusOK, map[string]any{"status": "ok", "in_use": now.InUse, "waiting": now.Waiting})
`},
	}},
	{name: "expvar shows the counters", source: "NP24", edits: []edit{
		code("internal/httpapi/vars.go", `
func (s *Server) vars() http.Handler {
	expvar.Publish("database", expvar.Func(func() any { return s.DB.Snapshot() }))
	return expvar.Handler()
}
`),
		route(`mux.Handle("GET /debug/vars", s.vars())`),
	}},
}
