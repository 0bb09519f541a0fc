package generator_test

// ownerLogs are edits of the owner's own code that log what no log must know, or without
// saying whose request it was.
var ownerLogs = []mutation{
	// What is asked and whom is not for logs.
	{name: "the address of the database in the log", source: "NP24", edits: []edit{
		{serve, "	s.warn()\n", "	s.warn()\n	s.log.InfoContext(ctx, \"connecting\", \"to\", os.Getenv(\"DATABASE_URL\"))\n"},
		imports(serve, "os"),
	}},
	{name: "the configuration of pgx in the log", source: "NP24", edits: []edit{
		{serve, "	s.warn()\n", `	s.warn()
	if to, err := cfg.Database.Config(); err == nil {
		s.log.InfoContext(ctx, "connecting", "to", to.ConnString())
	}
`},
	}},
	{name: "the settings printed as they came", source: "NP24", edits: []edit{
		{serve, "	s.warn()\n", `	s.warn()
	for _, name := range []string{"APP_ENV", "DATABASE_URL", "MIGRATION_DATABASE_URL"} {
		fmt.Fprintf(a.stderr, "%s=%s\n", name, os.Getenv(name))
	}
`},
		imports(serve, "os"),
	}},
	{name: "queries are logged with their arguments", source: "NP24", edits: []edit{
		{queries, "	rows, err := q.Query(ctx, sql, args...)\n", "	slog.DebugContext(ctx, \"query\", \"sql\", sql, \"args\", args)\n	rows, err := q.Query(ctx, sql, args...)\n"},
		imports(queries, "log/slog"),
	}},
	{name: "what a client sent in the log", source: "NP24", edits: []edit{
		code("internal/httpapi/import.go", `
func (s *Server) importNote(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	draft, err := readNote(r)
	if err != nil {
		return err
	}
	s.Logger.InfoContext(r.Context(), "importing a note", "note", draft)
	note, err := notes.Create(r.Context(), session, draft)
	return answerWith(w, note, err)
}
`),
		route(`mux.Handle("POST /import", s.InSession(s.importNote))`),
	}},
	{name: "an error in the log as it came", source: "NP24", edits: []edit{
		code("internal/httpapi/import.go", `
func (s *Server) importNote(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	draft, err := readNote(r)
	if err != nil {
		return err
	}
	note, err := notes.Create(r.Context(), session, draft)
	if err != nil {
		s.Logger.WarnContext(r.Context(), "a note was not imported", "error", err)
	}
	return answerWith(w, note, err)
}
`),
		route(`mux.Handle("POST /import", s.InSession(s.importNote))`),
	}},
	{name: "an error in the log as its text", source: "NP24", edits: []edit{
		code("cmd/demo/purge.go", `
func (s *service) purge(ctx context.Context) {
	err := s.db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "delete from notes where updated_at < now() - interval '1 year'")
		return err
	})
	if err != nil {
		s.log.WarnContext(ctx, fmt.Sprintf("nothing was purged: %s", err))
	}
}
`),
		{serve, "	s.warn()\n", "	s.warn()\n	time.AfterFunc(time.Hour, func() { s.purge(ctx) })\n"},
	}},

	{name: "the server's words in a log line", source: "NP24", edits: []edit{
		code("internal/httpapi/import.go", `
func (s *Server) importNote(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	draft, err := readNote(r)
	if err != nil {
		return err
	}
	note, err := notes.Create(r.Context(), session, draft)
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		s.Logger.WarnContext(r.Context(), "refused", "state", refused.Code, "detail", refused.Detail)
	}
	return answerWith(w, note, err)
}
`),
		route(`mux.Handle("POST /import", s.InSession(s.importNote))`),
	}},
	{name: "an error's text as an attribute", source: "NP24", edits: []edit{
		{health, "	c.checked = time.Now()\n", "	c.checked = time.Now()\n	if c.err != nil {\n		slog.WarnContext(context.Background(), \"not ready\", slog.String(\"error\", c.err.Error()))\n	}\n"},
		imports(health, "log/slog"),
	}},
	{name: "the environment in the log", source: "NP24", edits: []edit{
		{serve, "	s.warn()\n", "	s.warn()\n	s.log.DebugContext(ctx, \"starting\", \"environment\", os.Environ())\n"},
		imports(serve, "os"),
	}},
	{name: "a request's query string in the log", source: "NP24", edits: []edit{
		{middleware, `"path", r.URL.Path,`, `"path", r.URL.String(),`},
	}},

	// A line of the log must say whose request it was.
	{name: "the service logs without correlation", source: "NP26", edits: []edit{
		{serve, "slog.New(httpapi.WithCorrelation(handler))", "slog.New(handler)"},
	}},
	{name: "the API is given a logger of its own", source: "NP26", edits: []edit{
		{serve, "	s.api = &httpapi.Server{DB: s.db, Logger: s.log,", "	access := slog.New(slog.NewJSONHandler(logs, nil)).With(\"of\", \"http\")\n	s.api = &httpapi.Server{DB: s.db, Logger: access,"},
	}},
	{name: "sampling takes correlation away", source: "NP26", edits: []edit{
		code("cmd/demo/sampled.go", `
// sampled passes warnings, and one in ten of the rest.
type sampled struct {
	slog.Handler
	n *atomic.Int64
}

func (s sampled) Handle(_ context.Context, record slog.Record) error {
	if record.Level < slog.LevelWarn && s.n.Add(1)%10 != 0 {
		return nil
	}
	return s.Handler.Handle(context.Background(), record)
}
`),
		{serve, "slog.New(httpapi.WithCorrelation(handler))", "slog.New(sampled{httpapi.WithCorrelation(handler), new(atomic.Int64)})"},
		imports(serve, "sync/atomic"),
	}},
	{name: "a handler logs with the global logger", linter: "sloglint", edits: []edit{
		{handlers, "	w.Header().Set(\"Location\"", "	slog.InfoContext(r.Context(), \"note created\", \"id\", note.ID)\n	w.Header().Set(\"Location\""},
		imports(handlers, "log/slog"),
	}},
	{name: "a handler logs without a context", linter: "sloglint", edits: []edit{
		{problems, "	s.write(w, r, e)\n", "	s.Logger.Debug(\"answered with a problem\", \"code\", e.Code)\n	s.write(w, r, e)\n"},
	}},
	{name: "a helper with a context logs without it", linter: "sloglint", edits: []edit{
		code("internal/audit/audit.go", `
// Note stores that a note was touched.
func Note(ctx context.Context, session *nopool.Session, log *slog.Logger, id int64) error {
	log = log.With("note", id)
	_, err := session.Exec(ctx, "insert into audit (note) values ($1)", id)
	log.Info("audited")
	return err
}
`),
	}},
	{name: "a handler logs with another context", linter: "contextcheck", edits: []edit{
		code("internal/httpapi/import.go", `
func (s *Server) importNote(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	draft, err := readNote(r)
	if err != nil {
		return err
	}
	note, err := notes.Create(r.Context(), session, draft)
	s.Logger.InfoContext(context.Background(), "imported", "id", note.ID)
	return answerWith(w, note, err)
}
`),
		route(`mux.Handle("POST /import", s.InSession(s.importNote))`),
	}},
	{name: "a query goes on when its client has left", source: "NP26", edits: []edit{
		{handlers, "	note, err := notes.Create(r.Context(), session, draft)\n", "	note, err := notes.Create(context.Background(), session, draft)\n"},
		imports(handlers, "context"),
	}},
	{name: "a query has a time of its own", linter: "contextcheck", edits: []edit{
		{queries, "	rows, err := q.Query(ctx, sql, args...)\n", "	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)\n	defer cancel()\n	rows, err := q.Query(ctx, sql, args...)\n"},
	}},
	{name: "a helper makes the context of a query", source: "NP26", edits: []edit{
		{handlers, "	page, err := notes.List(r.Context(), session,", "	ctx, cancel := ample()\n	defer cancel()\n	page, err := notes.List(ctx, session,"},
		{handlers, "// noteID reads", `func ample() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.TODO(), time.Minute)
}

// noteID reads`},
		imports(handlers, "context", "time"),
	}},
	{name: "the server's own context for a query", linter: "containedctx", edits: []edit{
		{server, "	ready    readiness\n", "	ready    readiness\n	life     context.Context\n"},
		imports(server, "context"),
		code("internal/httpapi/import.go", `
func (s *Server) importNote(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	draft, err := readNote(r)
	if err != nil {
		return err
	}
	note, err := notes.Create(s.life, session, draft)
	return answerWith(w, note, err)
}
`),
		route(`mux.Handle("POST /import", s.InSession(s.importNote))`),
	}},
	{name: "a second handler of the log has no correlation", source: "NP26", edits: []edit{
		{serve, "slog.New(httpapi.WithCorrelation(handler))", "slog.New(slog.NewMultiHandler(httpapi.WithCorrelation(handler), slog.NewJSONHandler(os.Stdout, nil)))"},
		imports(serve, "os"),
	}},
	{name: "a handler logs with package log", source: "NP26", edits: []edit{
		{handlers, "	w.Header().Set(\"Location\"", "	log.Printf(\"note %d created\", note.ID)\n	w.Header().Set(\"Location\""},
		imports(handlers, "log"),
	}},
	{name: "a handler's own session has another context", linter: "contextcheck", edits: []edit{
		code("internal/httpapi/visits.go", `
func (s *Server) visit(w http.ResponseWriter, r *http.Request) {
	err := s.DB.Run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		_, err := notes.Create(ctx, session, notes.Draft{Title: "a visit"})
		return err
	})
	if err != nil {
		s.problem(w, r, err)
	}
}
`),
		route(`mux.HandleFunc("POST /visits", s.visit)`),
	}},
}
