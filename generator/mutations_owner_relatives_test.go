package generator_test

// ownerRelatives are edits of the owner's own code that break a rule in another way than
// those that were known when its check was written.
var ownerRelatives = []mutation{
	{name: "the rollback is deferred for writers alone", source: "NP04", edits: []edit{
		code("internal/ledger/move.go", `
// Move moves all notes, or tries to.
func Move(ctx context.Context, db *nopool.DB, write bool) error {
	session := db.Session(ctx, nopool.TxOptions{ReadOnly: !write})
	if write {
		defer session.Rollback(ctx)
	}
	if _, err := session.Exec(ctx, "update notes set title = title"); err != nil {
		return err
	}
	return session.Commit(ctx)
}
`),
	}},
	{name: "the rollback is deferred where a query went well", source: "NP04", edits: []edit{
		code("internal/ledger/touch.go", `
// Touch marks all notes as seen.
func Touch(ctx context.Context, db *nopool.DB, log *slog.Logger) (err error) {
	session := db.Session(ctx, nopool.TxOptions{})
	if log.Enabled(ctx, slog.LevelDebug) {
		defer func() { err = errors.Join(err, session.Rollback(ctx)) }()
	}
	if _, err := session.Exec(ctx, "update notes set updated_at = now()"); err != nil {
		return err
	}
	return session.Commit(ctx)
}
`),
	}},
	{name: "psql as a value of exec", source: "NP03", edits: []edit{
		code("internal/reports/reports.go", `
// Vacuum frees what is left of old notes.
func Vacuum(ctx context.Context, url string) error {
	run := &exec.Cmd{Path: "/usr/bin/psql", Args: []string{"psql", url, "-c", "vacuum"}}
	return run.Run()
}
`),
	}},
	{name: "pg_dump as a value of exec, in a handler", source: "NP03", edits: []edit{
		code("internal/httpapi/backup.go", `
const dumper = "/usr/local/bin/pg_dump"

func backup(w http.ResponseWriter, r *http.Request) {
	run := exec.Cmd{Path: dumper, Args: []string{"dump", "--table=notes"}, Stdout: w}
	if err := run.Run(); err != nil {
		w.WriteHeader(http.StatusInternalServerError)
	}
}

var _ http.HandlerFunc = backup
`),
	}},
	{name: "the process becomes psql", source: "NP03", edits: []edit{
		code("cmd/demo/shell.go", `
func (a app) shell() error {
	return syscall.Exec("/usr/bin/psql", []string{"psql"}, a.environ)
}
`),
	}},
	{name: "an error that the package has kept, in a response", source: "NP24", edits: []edit{
		code("internal/httpapi/last.go", `
var lastFailure error

func remember(err error) { lastFailure = err }

func last(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, lastFailure.Error()) }
`),
	}},
	{name: "the counters as a function of a public handler", source: "NP24", edits: []edit{
		code("internal/httpapi/stats.go", `
func stats(read func() nopool.Snapshot) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, read()) }
}

func (s *Server) addStats(mux *http.ServeMux) { mux.Handle("GET /stats", stats(s.DB.Snapshot)) }
`),
	}},
	{name: "the counters behind an interface", source: "NP24", edits: []edit{
		code("internal/httpapi/stats.go", `
type counted interface{ Snapshot() nopool.Snapshot }

func stats(from counted) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		now := from.Snapshot()
		fmt.Fprintf(w, "%d of %d\n", now.InUse, now.MaxSessions)
	}
}
`),
	}},
	{name: "the counters in a map that is the response", source: "NP24", edits: []edit{
		code("internal/httpapi/stats.go", `
func (s *Server) stats(w http.ResponseWriter, _ *http.Request) {
	all := map[string]any{}
	all["sessions"] = s.DB.Snapshot()
	writeJSON(w, http.StatusOK, all)
}
`),
	}},
	{name: "an error's text in a map that is the response", source: "NP24", edits: []edit{
		code("internal/httpapi/ping.go", `
func (s *Server) ping(w http.ResponseWriter, r *http.Request) {
	all := map[string]string{"status": "ok"}
	if err := s.DB.Run(r.Context(), nopool.TxOptions{}, func(context.Context, *nopool.Session) error { return nil }); err != nil {
		all["status"] = err.Error()
	}
	writeJSON(w, http.StatusOK, all)
}
`),
	}},
	{name: "named arguments in the log", source: "NP24", edits: []edit{
		code("internal/reports/reports.go", `
// Query stores a note.
func Query(ctx context.Context, log *slog.Logger, session *nopool.Session, title string) error {
	args := pgx.NamedArgs{"title": title}
	log.InfoContext(ctx, "query", "args", args)
	_, err := session.Exec(ctx, "insert into notes (title, body) values (@title, '')", args)
	return err
}
`),
	}},
	{name: "the address that a client asked for in the log, whole", source: "NP24", edits: []edit{
		code("internal/httpapi/asked.go", `
func (s *Server) asked(w http.ResponseWriter, r *http.Request) {
	s.Logger.InfoContext(r.Context(), "asked", "url", r.URL, "form", r.URL.Query())
	w.WriteHeader(http.StatusNoContent)
}
`),
	}},
	{name: "a helper for the environment, printed", source: "NP24", edits: []edit{
		code("internal/reports/reports.go", `
// env is a setting, or what it is when missing.
func env(name, missing string) string {
	if value, ok := os.LookupEnv(name); ok {
		return value
	}
	return missing
}

// Say says where the database is.
func Say(ctx context.Context, log *slog.Logger) {
	log.InfoContext(ctx, "connecting", "to", env("DATABASE_URL", ""))
}
`),
	}},
	{name: "a logger of package log", source: "NP26", edits: []edit{
		{"internal/reports/reports.go", "", `package reports

import (
	"context"
	"log"
	"os"

	"example.com/demo/internal/nopool"
)

// audit is the trail.
var audit = log.New(os.Stderr, "audit ", log.LstdFlags)

// Note stores that a note was touched.
func Note(ctx context.Context, session *nopool.Session, id int64) error {
	_, err := session.Exec(ctx, "insert into audit (note) values ($1)", id)
	audit.Printf("note %d", id)
	return err
}
`},
	}},
	{name: "a handler's own logger of package log", source: "NP26", edits: []edit{
		{"internal/httpapi/trail.go", "", `package httpapi

import (
	"io"
	"log"
	"net/http"

	"example.com/demo/internal/nopool"
)

type trail struct{ *log.Logger }

func newTrail(to io.Writer) trail { return trail{log.New(to, "", 0)} }

func (t trail) createNote(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	t.Println("a note is created")
	return createNote(w, r, session)
}
`},
	}},
	{name: "a session is rolled back at shutdown", source: "NP03", edits: []edit{
		code("internal/ledger/keep.go", `
// Keep leaves a session to the end of the server.
func Keep(server *http.Server, session *nopool.Session) {
	server.RegisterOnShutdown(func() { _ = session.Rollback(context.Background()) })
}
`),
	}},
	{name: "the collector ends a session", source: "NP03", edits: []edit{
		code("internal/ledger/clean.go", `
type work struct{ name string }

// Clean has the session's end come with that of its work.
func Clean(ctx context.Context, session *nopool.Session) *work {
	w := &work{"clean"}
	runtime.AddCleanup(w, func(s *nopool.Session) { _ = s.Rollback(ctx) }, session)
	return w
}
`),
	}},
	{name: "the parts of an upload are read after the first query", source: "NP13", edits: []edit{
		code("internal/httpapi/parts.go", `
func storeParts(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	parts, err := r.MultipartReader()
	if err != nil {
		return err
	}
	if _, err := session.Exec(r.Context(), "insert into uploads default values"); err != nil {
		return err
	}
	part, err := parts.NextPart()
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, part)
	return err
}
`),
	}},
	{name: "parts of a kind of one's own are read after the first query", source: "NP13", edits: []edit{
		code("internal/httpapi/parts.go", `
func storeMixed(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	mixed := multipart.NewReader(r.Body, "mixed")
	for {
		part, err := mixed.NextPart()
		if err != nil {
			return err
		}
		if _, err := session.Exec(r.Context(), "insert into uploads (name) values ($1)", part.FileName()); err != nil {
			return err
		}
		if _, err := mixed.NextRawPart(); err != nil {
			return err
		}
	}
}
`),
	}},
}
