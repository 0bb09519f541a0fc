package generator_test

// harmlessRelatives are what looks like a broken rule, and is none.
var harmlessRelatives = []harmlessEdit{
	{name: "an iterator over rows, used inside its handler", edits: []edit{
		code("internal/httpapi/titles.go", `
func titles(ctx context.Context, session *nopool.Session) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		rows, err := session.Query(ctx, "select title from notes order by id")
		if err != nil {
			yield("", err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			var title string
			err := rows.Scan(&title)
			if !yield(title, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield("", err)
		}
	}
}

func listTitles(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	for title, err := range titles(r.Context(), session) {
		if err != nil {
			return err
		}
		fmt.Fprintln(w, title)
	}
	return nil
}
`),
		route(`mux.Handle("GET /titles", s.InSession(listTitles))`),
	}},
	{name: "an iterator in the package of the notes", edits: []edit{
		{queries, "func one(", `// All returns every note, one at a time.
func All(ctx context.Context, q Queries) iter.Seq2[Note, error] {
	return func(yield func(Note, error) bool) {
		for after := int64(0); ; {
			page, err := List(ctx, q, MaxLimit, after)
			for _, note := range page.Notes {
				if !yield(note, nil) {
					return
				}
			}
			if err != nil {
				yield(Note{}, err)
				return
			}
			if page.Next == nil {
				return
			}
			after = *page.Next
		}
	}
}

func one(`},
		imports(queries, "iter"),
		code("internal/httpapi/all.go", `
func (s *Server) allNotes(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	all, n := notes.All(r.Context(), session), 0
	for note, err := range all {
		if err != nil {
			return err
		}
		n += len(note.Title)
	}
	writeJSON(w, http.StatusOK, n)
	return nil
}
`),
		route(`mux.Handle("GET /all", s.InSession(s.allNotes))`),
	}},
	{name: "more attributes in the access log", log: true, edits: []edit{
		{middleware, `"path", r.URL.Path,
		"status", w.status, "bytes", w.bytes,`, `"route", r.Pattern, "path", r.URL.Path,
		"agent", r.UserAgent(), "status", w.status, "bytes", w.bytes,`},
	}},
	{name: "a logger with the name of the program", log: true, edits: []edit{
		{serve, "slog.New(httpapi.WithCorrelation(handler))", `slog.New(httpapi.WithCorrelation(handler)).With("app", cfg.AppName, "env", cfg.Env)`},
	}},
	{name: "loggers of their own for each part", log: true, edits: []edit{
		{serve, "	cfg.DB.Logger = s.log\n", "	cfg.DB.Logger = s.log.With(\"part\", \"database\")\n"},
		{serve, "DB: s.db, Logger: s.log,", "DB: s.db, Logger: s.log.With(\"part\", \"http\"),"},
	}},
	{name: "steps in a table that runs at once", edits: []edit{
		code("internal/httpapi/setup.go", `
func setUp(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	ctx := r.Context()
	add := func(title string) error {
		_, err := notes.Create(ctx, session, notes.Draft{Title: title})
		return err
	}
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"first", func() error { return add("first") }},
		{"second", func() error { return add("second") }},
	} {
		if err := step.run(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
`),
		route(`mux.Handle("POST /setup", s.InSession(setUp))`),
	}},
	{name: "a repository made for one request", edits: []edit{
		code("internal/httpapi/repository.go", `
type repository struct{ db notes.Queries }

func newRepository(db notes.Queries) *repository { return &repository{db} }

func (r repository) first(ctx context.Context) (notes.Page, error) { return notes.List(ctx, r.db, 1, 0) }

func firstNote(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	page, err := newRepository(session).first(r.Context())
	return answerWith(w, page, err)
}
`),
		route(`mux.Handle("GET /first", s.InSession(firstNote))`),
	}},
	{name: "settings for the transaction alone", edits: []edit{
		{handlers, "	note, err := notes.Update(", `	if _, err := session.Exec(r.Context(), "set local statement_timeout = '2s'"); err != nil {
		return err
	}
	const caller = "select set_config('app.caller', $1, true)"
	if _, err := session.Exec(r.Context(), caller, r.Header.Get("X-User")); err != nil {
		return err
	}
	note, err := notes.Update(`},
	}},
	{name: "a word in SQL that sets nothing", edits: []edit{
		code("internal/reports/reports.go", `
// Tidy empties what is long, and returns the settings that end in time.
func Tidy(ctx context.Context, session *nopool.Session, table, change string) error {
	const offset = "settled"
	if _, err := session.Exec(ctx, "update "+table+" set "+change, "short"); err != nil {
		return err
	}
	_, err := session.Exec(ctx, `+"`\n		update notes set\n			body = ''\n		where length(body) > 9000 and title <> $1`"+`, offset)
	return err
}
`),
	}},
	{name: "a session with a rollback in a deferred function", edits: []edit{
		code("internal/ledger/ledger.go", `
// Close stores that a month is closed.
func Close(ctx context.Context, db *nopool.DB, month time.Month) (err error) {
	session := db.Session(ctx, nopool.TxOptions{Isolation: pgx.Serializable})
	defer func() {
		if rollbackErr := session.Rollback(ctx); err != nil {
			err = errors.Join(err, rollbackErr)
		}
	}()
	if _, err := session.Exec(ctx, "insert into notes (title, body) values ($1, '')", month.String()); err != nil {
		return err
	}
	return session.Commit(ctx)
}
`),
	}},
	{name: "rows that are read in other ways", edits: []edit{
		code("internal/ledger/rows.go", `
// Sizes returns how long the titles are.
func Sizes(ctx context.Context, session *nopool.Session) (sizes []int, err error) {
	rows, err := session.Query(ctx, "select length(title) from notes")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var size int
		if err := rows.Scan(&size); err != nil {
			return nil, err
		}
		sizes = append(sizes, size)
	}
	return sizes, rows.Err()
}

// Sum adds up what Sizes returns one by one.
func Sum(ctx context.Context, session *nopool.Session) (sum int, err error) {
	rows, err := session.Query(ctx, "select length(title) from notes")
	if err != nil {
		return 0, err
	}
	var size int
	_, err = pgx.ForEachRow(rows, []any{&size}, func() error {
		sum += size
		return nil
	})
	return sum, err
}

// Titles has a function that takes the rows over.
func Titles(ctx context.Context, session *nopool.Session) ([]string, error) {
	rows, err := session.Query(ctx, "select title from notes")
	if err != nil {
		return nil, err
	}
	return collect(rows)
}

func collect(rows pgx.Rows) ([]string, error) { return pgx.CollectRows(rows, pgx.RowTo[string]) }

// Batch closes what it sends.
func Batch(ctx context.Context, session *nopool.Session) error {
	batch := &pgx.Batch{}
	batch.Queue("delete from notes where title = ''")
	return session.SendBatch(ctx, batch).Close()
}
`),
	}},
	{name: "a job at every tick, whatever became of the last", edits: []edit{
		code("cmd/demo/tick.go", `
func (s *service) tick(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Hour):
		}
		err := s.db.RunWithRetry(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
			_, err := session.Exec(ctx, "delete from notes where updated_at < now() - interval '1 year'")
			return err
		})
		if err != nil {
			s.log.WarnContext(ctx, "notes were not purged", "error", nopool.Describe(err))
		}
	}
}
`),
		{serve, "	var started []hook\n", "	go s.tick(ctx)\n	var started []hook\n"},
	}},
	{name: "one session for each of many, until one fails", edits: []edit{
		code("internal/ledger/all.go", `
// StoreAll stores notes, each for itself.
func StoreAll(ctx context.Context, db *nopool.DB, drafts []notes.Draft) error {
	for _, draft := range drafts {
		err := db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
			_, err := notes.Create(ctx, session, draft)
			return err
		})
		if err != nil {
			return fmt.Errorf("store a note: %w", err)
		}
	}
	return nil
}
`),
	}},
	{name: "one session for each of many, those left out that fail", edits: []edit{
		code("internal/ledger/most.go", `
// StoreMost stores notes, each for itself, and says how many.
func StoreMost(ctx context.Context, db *nopool.DB, drafts []notes.Draft) (stored int) {
	for _, draft := range drafts {
		if len(draft.Problems()) > 0 {
			continue
		}
		err := db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
			if _, err := session.Exec(ctx, "savepoint before"); err != nil {
				return err
			}
			_, err := notes.Create(ctx, session, draft)
			if err != nil {
				_, err = session.Exec(ctx, "rollback to savepoint before")
			}
			return err
		})
		if err != nil {
			continue
		}
		stored++
	}
	return stored
}
`),
	}},
	{name: "a function that calls itself for what is below", edits: []edit{
		code("internal/ledger/tree.go", `
// Branch is a note and what is below it.
type Branch struct {
	Draft notes.Draft
	Below []Branch
}

// StoreTree stores each in a transaction of its own.
func StoreTree(ctx context.Context, db *nopool.DB, tree Branch) error {
	err := db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		_, err := notes.Create(ctx, session, tree.Draft)
		return err
	})
	if err != nil {
		return err
	}
	for _, branch := range tree.Below {
		if err := StoreTree(ctx, db, branch); err != nil {
			return err
		}
	}
	return nil
}
`),
	}},
	{name: "the program's own context in a variable", edits: []edit{
		code("cmd/demo/life.go", `
var life = context.Background()

// begin makes the life of all background work that of ctx.
func begin(ctx context.Context) (end context.CancelFunc) {
	life, end = context.WithCancel(ctx)
	return end
}
`),
		{serve, "	s.warn()\n", "	s.warn()\n	defer begin(ctx)()\n"},
	}},
	{name: "what is declared by var", edits: []edit{
		code("internal/ledger/declared.go", `
// Both reads what two transactions see.
func Both(ctx context.Context, db *nopool.DB) (counts [2]int, err error) {
	var first, second = db.Session(ctx, nopool.TxOptions{ReadOnly: true}), db.Session(ctx, nopool.TxOptions{ReadOnly: true})
	defer first.Rollback(ctx)
	defer second.Rollback(ctx)
	var row = first.QueryRow(ctx, "select count(*) from notes")
	if err := row.Scan(&counts[0]); err != nil {
		return counts, err
	}
	return counts, second.QueryRow(ctx, "select count(*) from notes").Scan(&counts[1])
}
`),
	}},
	{name: "a text of one's own in an error", edits: []edit{
		code("internal/httpapi/move.go", `
func move(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	id, err := noteID(r)
	if err != nil {
		return err
	}
	if most := int64(1000); id > most {
		detail := fmt.Sprintf("note %d is too far: at most %v can be moved", id, most)
		return newError(http.StatusConflict, "too_far", detail)
	}
	note, err := notes.Get(r.Context(), session, id)
	return answerWith(w, note, err)
}
`),
		route(`mux.Handle("GET /move/{id}", s.InSession(move))`),
	}},
	{name: "a line in the log about a note", edits: []edit{
		code("internal/httpapi/seen.go", `
func (s *Server) seen(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
	id, err := noteID(r)
	if err != nil {
		return err
	}
	log := s.Logger.With("note", id)
	note, err := notes.Get(r.Context(), session, id)
	if err != nil {
		log.DebugContext(r.Context(), "a note was not seen", "error", nopool.Describe(err))
		return err
	}
	log.InfoContext(r.Context(), "a note was seen", "characters", len(note.Body))
	return answerWith(w, note, err)
}
`),
		route(`mux.Handle("GET /seen/{id}", s.InSession(s.seen))`),
	}},
	{name: "other programs and other servers", edits: []edit{
		code("internal/others/others.go", `
// Convert makes a PNG of an image.
func Convert(ctx context.Context, from io.Reader, to io.Writer) error {
	run := exec.CommandContext(ctx, "convert", "-", "png:-")
	run.Stdin, run.Stdout = from, to
	return run.Run()
}

// Count tells statsd, over UDP.
func Count(ctx context.Context, name string) {
	conn, err := new(net.Dialer).DialContext(ctx, "udp", "127.0.0.1:8125")
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s:1|c", name)
}
`),
	}},
	{name: "the counters on an address of this machine", edits: []edit{
		code("cmd/demo/metrics.go", `
// metrics answers Prometheus, on an address that only this machine reaches.
func (s *service) metrics(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	own := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		now := s.db.Snapshot()
		fmt.Fprintf(w, "db_sessions_in_use %d\ndb_sessions_opened_total %d\n", now.InUse, now.Opened)
	})}
	go func() { _ = own.Serve(listener) }()
	context.AfterFunc(ctx, func() { _ = own.Close() })
	return nil
}
`),
		{serve, "	s.warn()\n", "	s.warn()\n	if err := s.metrics(ctx); err != nil {\n		return err\n	}\n"},
	}},
	{name: "what a handler asks of its client before a transaction", edits: []edit{
		code("internal/httpapi/signed.go", `
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request) (user string, ok bool) {
	if user = r.Header.Get("X-User"); user == "" {
		s.problem(w, r, newError(http.StatusUnauthorized, "unauthorized", "Say who you are"))
	}
	return user, user != ""
}

func (s *Server) signed(w http.ResponseWriter, r *http.Request) {
	user, ok := s.authenticate(w, r)
	if !ok {
		return
	}
	err := s.DB.Run(r.Context(), nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		_, err := notes.Create(ctx, session, notes.Draft{Title: user})
		return err
	})
	if err != nil {
		s.problem(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
`),
		route(`mux.HandleFunc("POST /signed", s.signed)`),
	}},
	{name: "values that are words of SQL, and SQL in parts", edits: []edit{
		code("internal/ledger/states.go", `
// Abort notes that a job was given up.
func Abort(ctx context.Context, session *nopool.Session, id int64) error {
	if _, err := session.Exec(ctx, "update jobs set state = $1 where id = $2", "abort", id); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	batch.Queue("insert into steps (job, step) values (@job, @step)", pgx.NamedArgs{"job": id, "step": "rollback"})
	batch.Queue("insert into steps (job, step) values ($1, $2)", id, "end")
	batch.Queue("update jobs " + "set steps = steps + 2 where id = $1 and " +
		"begin < now()", id)
	if err := session.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	_, err := session.Exec(ctx, "select case when state = 'abort' then 1 else 0 "+"end from jobs")
	return err
}
`),
	}},
	{name: "a row that is traced, and one that was never queried", edits: []edit{
		code("internal/ledger/traced.go", `
type tracedRow struct {
	pgx.Row
	span string
}

func (r *tracedRow) Scan(dest ...any) error {
	if err := r.Row.Scan(dest...); err != nil {
		return fmt.Errorf("%s: %w", r.span, err)
	}
	return nil
}

func failedRow(err error) pgx.Row { return &tracedRow{span: err.Error()} }

var noRow = failedRow(pgx.ErrNoRows)

// First is the first row of a query.
func First(ctx context.Context, session *nopool.Session, sql string, args ...any) pgx.Row {
	if sql == "" {
		return noRow
	}
	row := session.QueryRow(ctx, sql, args...)
	return &tracedRow{Row: row, span: sql}
}
`),
	}},
	{name: "another service is told of a failure", edits: []edit{
		code("internal/others/told.go", `
// Tell tells a service of a failure, and returns when to tell it again.
func Tell(ctx context.Context, to string, failure error) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(failure.Error()))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "text/plain")
	request.Header["X-Failure"] = []string{failure.Error()}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	return answer.Header.Get("Retry-After"), answer.Body.Close()
}
`),
	}},
	{name: "a loop and a goto that a failure leaves by", edits: []edit{
		code("internal/ledger/empty.go", `
// Empty deletes all notes, a thousand at a time.
func Empty(ctx context.Context, db *nopool.DB) error {
	for {
		var deleted int64
		err := db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
			tag, err := session.Exec(ctx, "delete from notes where id in (select id from notes limit 1000)")
			deleted = tag.RowsAffected()
			return err
		})
		if err != nil {
			return err
		} else if deleted == 0 {
			break
		}
	}
	count := func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "insert into counts values (0)")
		return err
	}
	err := db.Run(ctx, nopool.TxOptions{}, count)
	if err != nil {
		goto failed
	}
	return nil
failed:
	return fmt.Errorf("count the notes: %w", err)
}
`),
	}},
	{name: "YAML that is not deployed", edits: []edit{
		{".gitlab-ci.yml", "", `test:
  services: [postgres:17]
  variables:
    POSTGRES_HOST_AUTH_METHOD: trust
    TEST_DATABASE_URL: postgres://postgres@postgres.internal:5432/postgres?sslmode=disable
  script: [go test ./...]
`},
		{"sqlc.yaml", "", `version: "2"
sql:
  - engine: postgresql
    database:
      uri: postgres://postgres:x@localhost:5432/db
`},
	}},
	{name: "another project's address in the example", edits: []edit{
		{".env.example", "DATABASE_URL='postgres://postgres.PROJECTREF:PASSWORD@aws-0-REGION.", "DATABASE_URL='postgres://service.abcdefghij:PASSWORD@aws-0-eu-central-1."},
	}},
}
