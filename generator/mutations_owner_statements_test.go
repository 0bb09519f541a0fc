package generator_test

// ownerStatements are edits of the owner's own code that say to the database what they
// must not: once more, or for longer than their transaction.
var ownerStatements = []mutation{
	// Who repeats everything repeats what may have been done.
	{name: "a loop repeats Run until it succeeds", source: "NP29", edits: []edit{
		code("internal/httpapi/visits.go", `
func (s *Server) visit(w http.ResponseWriter, r *http.Request) {
	var err error
	for range 3 {
		err = s.DB.Run(r.Context(), nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
			_, err := notes.Create(ctx, session, notes.Draft{Title: "a visit"})
			return err
		})
		if err == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	s.problem(w, r, err)
}
`),
		route(`mux.HandleFunc("POST /visits", s.visit)`),
	}},
	{name: "a helper repeats whatever fails", source: "NP29", edits: []edit{
		code("internal/reports/reports.go", `
func retry(ctx context.Context, f func() error) (err error) {
	for attempt := 1; attempt <= 5; attempt++ {
		if err = f(); err == nil {
			return nil
		}
		select {
		case <-time.After(time.Duration(attempt) * time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// Store stores a note, sooner or later.
func Store(ctx context.Context, db *nopool.DB, d notes.Draft) error {
	return retry(ctx, func() error {
		return db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
			_, err := notes.Create(ctx, session, d)
			return err
		})
	})
}
`),
	}},
	{name: "a job calls itself again when Run fails", source: "NP29", edits: []edit{
		code("cmd/demo/purge.go", `
func (s *service) purge(ctx context.Context, left int) error {
	err := s.db.RunWithRetry(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "insert into notes (title, body) values ('purged', '')")
		return err
	})
	if err != nil && left > 0 {
		time.Sleep(time.Second)
		return s.purge(ctx, left-1)
	}
	return err
}
`),
		{serve, "	s.warn()\n", "	s.warn()\n	time.AfterFunc(time.Hour, func() { _ = s.purge(ctx, 5) })\n"},
	}},

	{name: "goto repeats Run", source: "NP29", edits: []edit{
		code("internal/reports/again.go", `
// Refresh counts the notes, however often it takes.
func Refresh(ctx context.Context, db *nopool.DB) error {
again:
	err := db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "insert into counts select count(*) from notes")
		return err
	})
	if err != nil && ctx.Err() == nil {
		time.Sleep(time.Second)
		goto again
	}
	return err
}
`),
	}},
	{name: "a loop goes on where Run fails, and returns where it does not", source: "NP29", edits: []edit{
		code("internal/reports/thrice.go", `
// Thrice counts the notes, in three attempts.
func Thrice(ctx context.Context, db *nopool.DB) (err error) {
	for range 3 {
		if err = db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
			_, err := session.Exec(ctx, "insert into counts select count(*) from notes")
			return err
		}); err != nil {
			time.Sleep(time.Second)
			continue
		}
		return nil
	}
	return err
}
`),
	}},
	{name: "a loop that is left where Run has not failed", source: "NP29", edits: []edit{
		code("internal/reports/until.go", `
// Until counts the notes, sooner or later.
func Until(ctx context.Context, db *nopool.DB) {
	for {
		err := db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
			_, err := session.Exec(ctx, "insert into counts select count(*) from notes")
			return err
		})
		if err != nil {
			time.Sleep(time.Second)
		} else {
			break
		}
	}
}
`),
	}},
	{name: "a function in a variable calls itself again when Run fails", source: "NP29", edits: []edit{
		code("internal/reports/attempt.go", `
// Recount counts the notes, in three attempts.
func Recount(ctx context.Context, db *nopool.DB) error {
	var attempt func(left int) error
	attempt = func(left int) error {
		err := db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
			_, err := session.Exec(ctx, "insert into counts select count(*) from notes")
			return err
		})
		if err == nil || left == 0 {
			return err
		}
		return attempt(left - 1)
	}
	return attempt(3)
}
`),
	}},
	{name: "a loop in which Run is condition and step", source: "NP29", edits: []edit{
		code("internal/reports/reports.go", `
// Touch marks all notes as seen.
func Touch(ctx context.Context, db *nopool.DB) {
	touch := func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "update notes set updated_at = now()")
		return err
	}
	for err := db.Run(ctx, nopool.TxOptions{}, touch); err != nil; err = db.Run(ctx, nopool.TxOptions{}, touch) {
		time.Sleep(time.Second)
	}
}
`),
	}},
	{name: "what may have been done is done again", source: "NP29", edits: []edit{
		code("internal/reports/reports.go", `
func store(ctx context.Context, db *nopool.DB, title string) error {
	return db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		_, err := notes.Create(ctx, session, notes.Draft{Title: title})
		return err
	})
}

// Store stores a note, also where nobody knows whether it did.
func Store(ctx context.Context, db *nopool.DB, title string) error {
	for {
		err := store(ctx, db, title)
		if !errors.Is(err, nopool.ErrOutcomeUnknown) && !errors.Is(err, nopool.ErrUnavailable) {
			return err
		}
	}
}
`),
	}},

	// SET outlives the transaction, in the pooler's connection.
	{name: "a handler sets a timeout of its own", source: "NP16", edits: []edit{
		{handlers, "	page, err := notes.List(", `	if _, err := session.Exec(r.Context(), "set statement_timeout = '2min'"); err != nil {
		return err
	}
	page, err := notes.List(`},
	}},
	{name: "the caller's name is set for good", source: "NP16", edits: []edit{
		{handlers, "	note, err := notes.Update(", `	if _, err := session.Exec(r.Context(), "select set_config('app.caller', $1, false)", r.Header.Get("X-User")); err != nil {
		return err
	}
	note, err := notes.Update(`},
	}},
	{name: "a tenant's search path, put together", source: "NP16", edits: []edit{
		code("internal/tenant/tenant.go", `
const choose = "SET search_path TO %s, public"

// Enter makes the tables of a tenant those of the session.
func Enter(ctx context.Context, session *nopool.Session, name string) error {
	_, err := session.Exec(ctx, fmt.Sprintf(choose, pgx.Identifier{name}.Sanitize()))
	return err
}
`),
	}},
	{name: "a batch begins with a role", source: "NP16", edits: []edit{
		code("internal/reports/reports.go", `
// Count counts the notes that a role can see.
func Count(ctx context.Context, session *nopool.Session) (n int64, err error) {
	batch := &pgx.Batch{}
	batch.Queue("set role reader")
	batch.Queue("select count(*) from notes").QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
	return n, session.SendBatch(ctx, batch).Close()
}
`),
	}},
	{name: "a query that any session would take sets the time zone", source: "NP16", edits: []edit{
		{queries, "	rows, err := q.Query(ctx, `select `+columns+` from notes where id > $1", `	zone, err := q.Query(ctx, "/* for the dates */ Set Time Zone 'Europe/Zurich'")
	if err != nil {
		return Page{}, err
	}
	zone.Close()
	rows, err := q.Query(ctx, ` + "`select `+columns+` from notes where id > $1"},
	}},
	{name: "whether a setting lasts is an argument", source: "NP16", edits: []edit{
		{handlers, "	note, err := notes.Get(", `	const set = "select set_config($1, $2, $3)"
	if _, err := session.Exec(r.Context(), set, "app.caller", r.Header.Get("X-User"), false); err != nil {
		return err
	}
	note, err := notes.Get(`},
	}},
	{name: "a handler commits by a statement, and goes on", source: "NP16", edits: []edit{
		code("internal/reports/purge.go", `
// Purge deletes old notes, each thousand for good.
func Purge(ctx context.Context, session *nopool.Session) error {
	for {
		tag, err := session.Exec(ctx, "delete from notes where id in (select id from notes where updated_at < now() - interval '1 year' limit 1000)")
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		if _, err := session.Exec(ctx, "COMMIT AND CHAIN"); err != nil {
			return err
		}
	}
}
`),
	}},
	{name: "a batch has a transaction of its own", source: "NP16", edits: []edit{
		code("internal/reports/swap.go", `
// Swap replaces all counts.
func Swap(ctx context.Context, session *nopool.Session) error {
	batch := &pgx.Batch{}
	batch.Queue("begin isolation level serializable")
	batch.Queue("delete from counts")
	const done = "commit;"
	batch.Queue(done)
	return session.SendBatch(ctx, batch).Close()
}
`),
	}},
	{name: "a query undoes what was done before", source: "NP16", edits: []edit{
		{queries, "	rows, err := q.Query(ctx, sql, args...)\n", `	if len(args) > 100 {
		undone, err := q.Query(ctx, "/* too many */ select 1; rollback work")
		if err != nil {
			return Note{}, err
		}
		undone.Close()
	}
	rows, err := q.Query(ctx, sql, args...)
`},
	}},
	{name: "a setting and its value, put together", source: "NP16", edits: []edit{
		code("internal/tenant/tenant.go", `
func set(ctx context.Context, session *nopool.Session, name, value string) error {
	_, err := session.Exec(ctx, "set "+name+" = '"+strings.ReplaceAll(value, "'", "''")+"'")
	return err
}

// Enter tells row-level security who asks.
func Enter(ctx context.Context, session *nopool.Session, id string) error {
	return set(ctx, session, "app.tenant", id)
}
`),
	}},
	{name: "a setting's name and value are arguments of Sprintf", source: "NP16", edits: []edit{
		{queries, "	rows, err := q.Query(ctx, sql, args...)\n", "	if _, err := q.Query(ctx, fmt.Sprintf(\"set %s = %d\", \"app.rows\", len(args))); err != nil {\n		return Note{}, err\n	}\n	rows, err := q.Query(ctx, sql, args...)\n"},
	}, also: "NP04"},
	{name: "a lock of the session", source: "NP16", edits: []edit{
		{handlers, "	draft, err := readNote(r)\n	if err != nil {\n		return err\n	}\n	note, err := notes.Update(", `	draft, err := readNote(r)
	if err != nil {
		return err
	}
	if _, err := session.Exec(r.Context(), "select pg_advisory_lock($1)", id); err != nil {
		return err
	}
	note, err := notes.Update(`},
	}},
	{name: "a table for the session", source: "NP16", edits: []edit{
		code("internal/reports/reports.go", `
// Stage makes room for what is loaded.
func Stage(ctx context.Context, session *nopool.Session, titles [][]any) (int64, error) {
	if _, err := session.Exec(ctx, "create temporary table staged (title text)"); err != nil {
		return 0, err
	}
	return session.CopyFrom(ctx, pgx.Identifier{"staged"}, []string{"title"}, pgx.CopyFromRows(titles))
}
`),
	}},
}
