package generator_test

// ownerCommits are edits of the owner's own code that do not look at what a commit says.
var ownerCommits = []mutation{
	{name: "a handler discards what Commit says", linter: "errcheck", edits: []edit{
		{handlers, "	w.Header().Set(\"Location\"", "	_ = session.Commit(r.Context()) // the note is there before its address is\n	w.Header().Set(\"Location\""},
	}},
	{name: "a job does not look at its commit", linter: "errcheck", edits: []edit{
		code("internal/reports/reports.go", `
// Purge deletes what nobody has touched for a year, and says how much that was.
func Purge(ctx context.Context, db *nopool.DB) (int64, error) {
	session := db.Session(ctx, nopool.TxOptions{})
	defer session.Rollback(ctx)
	tag, err := session.Exec(ctx, "delete from notes where updated_at < now() - interval '1 year'")
	if err == nil {
		session.Commit(ctx)
	}
	return tag.RowsAffected(), err
}
`),
	}},
	{name: "a deferred commit", linter: "errcheck", edits: []edit{
		code("internal/reports/reports.go", `
// Touch marks a note as seen.
func Touch(ctx context.Context, db *nopool.DB, id int64) error {
	session := db.Session(ctx, nopool.TxOptions{})
	defer session.Rollback(ctx)
	defer session.Commit(ctx)
	_, err := session.Exec(ctx, "update notes set updated_at = now() where id = $1", id)
	return err
}
`),
	}},
	{name: "a handler discards what Run says", linter: "errcheck", edits: []edit{
		code("internal/httpapi/visits.go", `
func (s *Server) visit(w http.ResponseWriter, r *http.Request) {
	_ = s.DB.Run(r.Context(), nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "update notes set updated_at = now() where id = $1", r.PathValue("id"))
		return err
	})
	w.WriteHeader(http.StatusNoContent)
}
`),
		route(`mux.HandleFunc("POST /visits/{id}", s.visit)`),
	}},
	{name: "201 in the middle of a transaction", source: "NP05", edits: []edit{
		code("internal/httpapi/early.go", `
func (s *Server) early(w http.ResponseWriter, r *http.Request) {
	err := s.DB.Run(r.Context(), nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
		note, err := notes.Create(ctx, session, notes.Draft{Title: "early"})
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusCreated, note)
		return nil
	})
	if err != nil {
		s.problem(w, r, err)
	}
}
`),
		route(`mux.HandleFunc("POST /early", s.early)`),
	}},
	{name: "a function for RunWithRetry answers by itself", source: "NP05", edits: []edit{
		code("internal/httpapi/created.go", `
func (s *Server) created(w http.ResponseWriter, r *http.Request) {
	store := func(ctx context.Context, session *nopool.Session) error {
		_, err := notes.Create(ctx, session, notes.Draft{Title: "early"})
		if err == nil {
			w.WriteHeader(http.StatusCreated)
		}
		return err
	}
	if err := s.DB.RunWithRetry(r.Context(), nopool.TxOptions{}, store); err != nil {
		s.problem(w, r, err)
	}
}
`),
		route(`mux.HandleFunc("POST /created", s.created)`),
	}},
	{name: "what Commit says is overwritten", linter: "ineffassign", edits: []edit{
		{handlers, "	w.Header().Set(\"Location\"", "	err = session.Commit(r.Context())\n	w.Header().Set(\"Location\""},
	}},
	{name: "a failed commit is logged, and answered as done", source: "NP05", edits: []edit{
		code("internal/httpapi/visits.go", `
func (s *Server) visit(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	session := s.DB.Session(ctx, nopool.TxOptions{})
	defer session.Rollback(ctx)
	if _, err := notes.Create(ctx, session, notes.Draft{Title: "a visit"}); err != nil {
		s.problem(w, r, err)
		return
	}
	if err := session.Commit(ctx); err != nil {
		s.Logger.ErrorContext(ctx, "a visit was not stored", "error", nopool.Describe(err))
	}
	w.WriteHeader(http.StatusNoContent)
}
`),
		route(`mux.HandleFunc("POST /visits", s.visit)`),
	}},
}
