package generator_test

// ownerEnds are edits of the owner's own code that do not end what they begin, sessions
// and rows.
var ownerEnds = []mutation{
	// A session that nobody rolls back.
	{name: "a handler takes a session, and only commits it", source: "NP04", edits: []edit{
		code("internal/httpapi/export.go", `
func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	session := s.DB.Session(ctx, nopool.TxOptions{ReadOnly: true})
	page, err := notes.List(ctx, session, notes.MaxLimit, 0)
	if err != nil {
		s.problem(w, r, err)
		return
	}
	if err := session.Commit(ctx); err != nil {
		s.problem(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, page.Notes)
}
`),
		route(`mux.HandleFunc("GET /export", s.export)`),
	}},
	{name: "a job is rolled back where a query fails, and nowhere else", source: "NP04", edits: []edit{
		code("cmd/demo/purge.go", `
// purge deletes what nobody has touched for a year.
func (s *service) purge(ctx context.Context) error {
	session := s.db.Session(ctx, nopool.TxOptions{})
	if _, err := session.Exec(ctx, "delete from notes where updated_at < now() - interval '1 year'"); err != nil {
		return errors.Join(err, session.Rollback(ctx))
	}
	return session.Commit(ctx)
}
`),
		{serve, "	s.warn()\n", "	s.warn()\n	time.AfterFunc(time.Hour, func() { _ = s.purge(ctx) })\n"},
	}},
	{name: "a query on a session without a name", source: "NP04", edits: []edit{
		code("internal/httpapi/count.go", `
func (s *Server) countNotes(w http.ResponseWriter, r *http.Request) {
	var count int64
	err := s.DB.Session(r.Context(), nopool.TxOptions{ReadOnly: true}).
		QueryRow(r.Context(), "select count(*) from notes").Scan(&count)
	if err != nil {
		s.problem(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, count)
}
`),
		route(`mux.HandleFunc("GET /count", s.countNotes)`),
	}},
	{name: "a helper begins the session, and its caller forgets it", source: "NP04", edits: []edit{
		code("internal/httpapi/archive.go", `
// begin returns a session for work that must not see others.
func (s *Server) begin(r *http.Request) (context.Context, *nopool.Session) {
	session := s.DB.Session(r.Context(), nopool.TxOptions{Isolation: pgx.Serializable})
	return nopool.WithSession(r.Context(), session), session
}

func (s *Server) archive(w http.ResponseWriter, r *http.Request) {
	ctx, session := s.begin(r)
	_, err := session.Exec(ctx, "delete from notes where title = 'draft'")
	if err == nil {
		err = session.Commit(ctx)
	}
	if err != nil {
		s.problem(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
`),
		route(`mux.HandleFunc("POST /archive", s.archive)`),
	}},
	{name: "the rollback is deferred after the first query", source: "NP04", edits: []edit{
		code("internal/reports/reports.go", `
// Titles returns the titles of the first notes.
func Titles(ctx context.Context, db *nopool.DB) ([]string, error) {
	session := db.Session(ctx, nopool.TxOptions{ReadOnly: true})
	rows, err := session.Query(ctx, "select title from notes order by id limit 10")
	if err != nil {
		return nil, err
	}
	defer session.Rollback(ctx)
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
`),
	}},

	{name: "the deferred rollback wants an error", source: "NP04", edits: []edit{
		code("internal/reports/reports.go", `
// Touch marks a note as seen.
func Touch(ctx context.Context, db *nopool.DB, id int64) (err error) {
	session := db.Session(ctx, nopool.TxOptions{})
	defer func() {
		if err != nil { // a panic has none
			_ = session.Rollback(ctx)
		}
	}()
	if _, err := session.Exec(ctx, "update notes set updated_at = now() where id = $1", id); err != nil {
		return err
	}
	return session.Commit(ctx)
}
`),
	}},
	{name: "of two sessions one is rolled back", source: "NP04", edits: []edit{
		code("internal/reports/reports.go", `
// Copy copies a note, read in one transaction and written in another.
func Copy(ctx context.Context, db *nopool.DB, id int64) error {
	from := db.Session(ctx, nopool.TxOptions{ReadOnly: true})
	to := db.Session(ctx, nopool.TxOptions{})
	defer from.Rollback(ctx)
	note, err := notes.Get(ctx, from, id)
	if err != nil {
		return err
	}
	if _, err := notes.Create(ctx, to, notes.Draft{Title: note.Title, Body: note.Body}); err != nil {
		return err
	}
	return to.Commit(ctx)
}
`),
	}},
	{name: "a unit of work commits, and nothing else", source: "NP04", edits: []edit{
		code("internal/httpapi/work.go", `
// work is what belongs to one request.
type work struct {
	http.ResponseWriter
	session *nopool.Session
}

func (s *Server) work(w http.ResponseWriter, r *http.Request) work {
	return work{w, s.DB.Session(r.Context(), nopool.TxOptions{})}
}

func (w work) done(r *http.Request) error { return w.session.Commit(r.Context()) }

func (s *Server) touch(w http.ResponseWriter, r *http.Request) {
	work := s.work(w, r)
	_, err := work.session.Exec(r.Context(), "update notes set updated_at = now()")
	if err == nil {
		err = work.done(r)
	}
	if err != nil {
		s.problem(w, r, err)
	}
}
`),
		route(`mux.HandleFunc("POST /touch", s.touch)`),
	}},
	{name: "the rollback is deferred in a function that nobody calls", source: "NP04", edits: []edit{
		code("internal/reports/unused.go", `
// Forget deletes a note.
func Forget(ctx context.Context, db *nopool.DB, id int64) error {
	session := db.Session(ctx, nopool.TxOptions{})
	cleanUp := func() { defer session.Rollback(ctx) }
	_ = cleanUp
	if err := notes.Delete(ctx, session, id); err != nil {
		return err
	}
	return session.Commit(ctx)
}
`),
	}},
	{name: "the rollback is deferred where a signal would call it", source: "NP04", edits: []edit{
		code("internal/reports/stopped.go", `
// ForgetAll deletes notes until it is stopped.
func ForgetAll(ctx context.Context, db *nopool.DB, ids []int64) error {
	session := db.Session(ctx, nopool.TxOptions{})
	stop := sync.OnceFunc(func() {
		defer func() { _ = session.Rollback(ctx) }()
	})
	for _, id := range ids {
		if ctx.Err() != nil {
			stop()
			return ctx.Err()
		}
		if err := notes.Delete(ctx, session, id); err != nil {
			return err
		}
	}
	return session.Commit(ctx)
}
`),
	}, also: "NP15"},
	{name: "an interface begins the session", source: "NP04", edits: []edit{
		code("internal/reports/reports.go", `
// Beginner is what begins sessions, for tests to replace.
type Beginner interface {
	Session(ctx context.Context, opts nopool.TxOptions) *nopool.Session
}

// Count counts the notes.
func Count(ctx context.Context, db Beginner) (n int64, err error) {
	session := db.Session(ctx, nopool.TxOptions{ReadOnly: true})
	if err := session.QueryRow(ctx, "select count(*) from notes").Scan(&n); err != nil {
		return 0, err
	}
	return n, session.Commit(ctx)
}
`),
	}},

	// Rows that stay open.
	{name: "only the first of many rows is read", source: "NP04", edits: []edit{
		{queries, "func one(", `// Newest returns the note that was stored last.
func Newest(ctx context.Context, q Queries) (n Note, err error) {
	rows, err := q.Query(ctx, "select id, title, body from notes order by id desc")
	if err != nil {
		return n, err
	}
	if !rows.Next() {
		return n, pgx.ErrNoRows
	}
	return n, rows.Scan(&n.ID, &n.Title, &n.Body)
}

func one(`},
	}},
	{name: "a loop over rows is left in its middle", source: "NP04", edits: []edit{
		code("internal/httpapi/find.go", `
func findNote(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	rows, err := session.Query(r.Context(), "select id, title from notes")
	if err != nil {
		return err
	}
	for rows.Next() {
		var id int64
		var title string
		if err := rows.Scan(&id, &title); err != nil {
			return err
		}
		if title == r.PathValue("title") {
			writeJSON(w, http.StatusOK, id)
			return nil
		}
	}
	return cmp.Or[error](rows.Err(), notFound)
}
`),
		route(`mux.Handle("GET /find/{title}", s.InSession(findNote))`),
	}},
	{name: "a query whose rows nobody wants", linter: "sqlclosecheck", edits: []edit{
		{handlers, "	w.Header().Set(\"Location\"", `	if _, err := session.Query(r.Context(), "update notes set updated_at = now() where id = $1 returning id", note.ID); err != nil {
		return err
	}
	w.Header().Set("Location"`},
	}},
	{name: "a batch whose results are not closed", source: "NP04", edits: []edit{
		code("internal/reports/reports.go", `
// Store stores several notes in one round trip.
func Store(ctx context.Context, session *nopool.Session, titles []string) error {
	var batch pgx.Batch
	for _, title := range titles {
		batch.Queue("insert into notes (title, body) values ($1, '')", title)
	}
	_, err := session.SendBatch(ctx, &batch).Exec()
	return err
}
`),
	}},

	{name: "a row in a variable that is never scanned", source: "NP04", edits: []edit{
		code("internal/reports/touch.go", `
// Tell tells listeners of a note.
func Tell(ctx context.Context, session *nopool.Session, id int64) error {
	row := session.QueryRow(ctx, "select pg_notify('notes', $1::text)", id)
	if row == nil {
		return pgx.ErrNoRows
	}
	return nil
}
`),
	}},
	{name: "a row that is declared, and never scanned", source: "NP04", edits: []edit{
		code("internal/reports/declared.go", `
// Told tells listeners of a note.
func Told(ctx context.Context, session *nopool.Session, id int64) bool {
	var row pgx.Row = session.QueryRow(ctx, "select pg_notify('notes', $1::text)", id)
	return row != nil
}
`),
	}},
	{name: "a row of a batch that is never scanned", source: "NP04", edits: []edit{
		code("internal/reports/pair.go", `
// Pair stores a count and reads the last.
func Pair(ctx context.Context, session *nopool.Session) (n int, err error) {
	batch := &pgx.Batch{}
	batch.Queue("insert into counts values (1) returning 1")
	batch.Queue("select count(*) from counts")
	results := session.SendBatch(ctx, batch)
	defer results.Close()
	_ = results.QueryRow()
	return n, results.QueryRow().Scan(&n)
}
`),
	}},
	{name: "a row that is never read", source: "NP04", edits: []edit{
		{handlers, "	w.Header().Set(\"Location\"", "	session.QueryRow(r.Context(), \"select pg_notify('notes', $1)\", note.Title)\n	w.Header().Set(\"Location\""},
	}},
	{name: "a helper returns rows, and its caller stops early", source: "NP04", edits: []edit{
		code("internal/reports/reports.go", `
func titles(ctx context.Context, session *nopool.Session) (pgx.Rows, error) {
	return session.Query(ctx, "select title from notes order by id")
}

// Has reports whether a title is there.
func Has(ctx context.Context, session *nopool.Session, want string) (bool, error) {
	rows, err := titles(ctx, session)
	if err != nil {
		return false, err
	}
	for rows.Next() {
		var title string
		if err := rows.Scan(&title); err != nil || title == want {
			return err == nil, err
		}
	}
	return false, rows.Err()
}
`),
	}},
	{name: "the results of a batch are left at the first error", source: "NP04", edits: []edit{
		code("internal/reports/reports.go", `
// Store stores several notes in one round trip.
func Store(ctx context.Context, session *nopool.Session, titles []string) error {
	batch := &pgx.Batch{}
	for _, title := range titles {
		batch.Queue("insert into notes (title, body) values ($1, '')", title)
	}
	results := session.SendBatch(ctx, batch)
	for range titles {
		if _, err := results.Exec(); err != nil {
			return err
		}
	}
	return results.Close()
}
`),
	}},
}
