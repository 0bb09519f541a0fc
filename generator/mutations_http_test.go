package generator_test

// httpMutations change what clients are told, and what of a request is known inside,
// in the order of the rules.
var httpMutations = []mutation{
	{name: "no panic is recovered", fails: "NP08", edits: []edit{
		{middleware, "		defer s.recover(recorder, r)\n", ""},
	}, also: "NP04 NP06 NP23 NP07"},
	{name: "a panic is answered with its value", fails: "NP08", edits: []edit{
		{middleware, "	s.write(w, r, internalError)\n", `	s.write(w, r, &Error{Status: http.StatusInternalServerError, Code: "internal_error", Detail: err.Error()})
`},
	}, also: "NP24"},
	{name: "a panic is not logged", fails: "NP08", edits: []edit{
		{middleware, "s.Logger.ErrorContext(r.Context(), \"panic\"", "s.Logger.DebugContext(context.WithoutCancel(r.Context()), \"request ended\""},
	}},

	{name: "an error's text in the response", fails: "NP24", edits: []edit{
		{problems, "	return internalError\n}\n", "	return &Error{Status: http.StatusInternalServerError, Code: \"internal_error\", Detail: err.Error()}\n}\n"},
	}, also: "NP08"},
	{name: "the server's words in the response", fails: "NP24", edits: []edit{
		{problems, "			return known.answer\n", `			if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
				return newError(known.answer.Status, known.answer.Code, pgErr.Message)
			}
			return known.answer
`},
	}},
	{name: "the server's words in the log", fails: "NP24", edits: []edit{
		{events, "		if db.log.Enabled(ctx, slog.LevelDebug) {", "		if db.log.Enabled(ctx, slog.LevelError) {"},
	}},
	{name: "a printed configuration shows its URL", fails: "NP24/connection_strings", edits: []edit{
		{settings, `{ fmt.Fprintf(f, "config of %s (%s)", c.AppName, c.Env) }`, `{
	to, _ := c.Database.Config()
	fmt.Fprintf(f, "config of %s (%s): %s", c.AppName, c.Env, to.ConnString())
}`},
	}},
	{name: "a handler sends the server's words", source: "NP24", edits: []edit{
		{handlers, `	note, err := notes.Create(r.Context(), session, draft)
	if err != nil {
`, `	note, err := notes.Create(r.Context(), session, draft)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "23505" {
		return &Error{Status: http.StatusConflict, Code: "already_exists", Detail: pgErr.Detail}
	}
	if err != nil {
`},
		{handlers, `	"example.com/demo/internal/nopool"
`, `	"github.com/jackc/pgx/v5/pgconn"

	"example.com/demo/internal/nopool"
`},
		{handlers, "import (\n", "import (\n	\"errors\"\n"},
	}},
	{name: "a handler without a session sends an error's text", source: "NP24", edits: []edit{
		{"internal/httpapi/export.go", "", `package httpapi

import (
	"context"
	"net/http"

	"example.com/demo/internal/nopool"
)

func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	err := s.DB.Run(r.Context(), nopool.TxOptions{ReadOnly: true}, func(ctx context.Context, session *nopool.Session) error {
		_, err := session.Exec(ctx, "select title from notes")
		return err
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

var _ = (*Server).export
`},
	}},
	{name: "a malformed URL is quoted", fails: "NP24/connection_strings", edits: []edit{
		{connecting, `return nil, invalid("must begin with postgres:// or be a list of keyword=value")`, `return nil, invalid(connString + " must begin with postgres:// or be a list of keyword=value")`},
	}},
	{name: "a URL is taken that has its password in the path", fails: "NP24", edits: []edit{
		{connecting, ` || strings.Contains(parsed.EscapedPath()+parsed.RawQuery, "@") {`, " {"},
	}},
	{name: "a value in the URL is quoted", fails: "NP24", edits: []edit{
		{connecting, `invalid("the value of " + key + " is not one that it can have")`, `invalid(why + key)`},
	}},
	{name: "an error is printed as pgx words it", fails: "NP24", edits: []edit{
		{command, "strings.Lines(connect.Explain(err))", "strings.Lines(err.Error())"},
	}},

	{name: "a FATAL is taken for the client's fault", fails: "NP25", edits: []edit{
		{errorsFile, "return ok && isFatal(pgErr) &&", "return ok && isFatal(pgErr) && pgErr.Code[:2] == \"57\" &&"},
	}},
	{name: "a duplicate is a bad request", fails: "NP25", edits: []edit{
		{problems, `{state("23505"), newError(http.StatusConflict,`, `{state("23505"), newError(http.StatusBadRequest,`},
	}, also: "NP19 NP05 NP07"},
	{name: "what refers to a row is no conflict, as Postgres 18 says it", fails: "NP25", edits: []edit{
		{problems, `state("23503", "23001")`, `state("23503")`},
	}},
	{name: "a fault of the client's is logged as one of ours", fails: "NP25", edits: []edit{
		{events, "			level = slog.LevelInfo\n", "			level = slog.LevelError\n"},
	}},
	{name: "a standby's refusal of a write is our fault", fails: "NP25", edits: []edit{
		{problems, `{state("25006"), newError(http.StatusServiceUnavailable, "read_only", "The database takes no writes at present")},`, `{state("25006"), internalError},`},
	}},
	{name: "nothing says when to come back", fails: "NP25", edits: []edit{
		{problems, `		w.Header().Set("Retry-After", "1")
`, `		w.Header().Set("Cache-Control", "no-cache")
`},
	}, also: "NP17 NP20 NP11 NP18"},
	{name: "a problem is plain JSON", fails: "NP25", edits: []edit{
		{problems, `"application/problem+json")`, `"application/json")`},
	}, also: "NP04 NP05 NP06 NP08 NP11 NP13 NP17 NP18 NP19 NP20 NP23 NP26 NP27 NP28 NP07"},

	{name: "any id is taken", fails: "NP26", edits: []edit{
		{middleware, "`^[A-Za-z0-9._-]{1,64}$`", "`^.+$`"},
	}},
	{name: "the id is not in the response", fails: "NP26", edits: []edit{
		{middleware, "		w.Header().Set(correlationHeader, id)\n", ""},
	}, also: "NP04 NP05 NP06 NP08 NP11 NP13 NP17 NP18 NP19 NP20 NP23 NP24 NP25 NP27 NP28 NP16 NP22 NP31 NP07"},
	{name: "the id is not in the log", fails: "NP26", edits: []edit{
		{middleware, "		record.AddAttrs(slog.String(\"correlation_id\", id))\n", "		_ = slog.String(\"correlation_id\", id)\n"},
	}, also: "NP08 NP11 NP19"},
	{name: "a logger with attributes loses the id", fails: "NP26", edits: []edit{
		{middleware, `func (c correlated) WithAttrs(a []slog.Attr) slog.Handler { return correlated{c.Handler.WithAttrs(a)} }

`, ""},
		{serve, "	cfg.DB.Logger = s.log\n", "	cfg.DB.Logger = s.log.With(\"of\", \"database\")\n"},
	}, also: "NP08 NP11 NP19"},
	{name: "any traceparent is taken", fails: "NP26", edits: []edit{
		{middleware, "(?:[0-9a-e][0-9a-f]|f[0-9a-e])", "[0-9a-f]{2}"},
	}},

	{name: "/health asks the database", fails: "NP27", edits: []edit{
		{health, `	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
`, `	if reachable(s.DB) != nil {
		s.write(w, r, databaseDown)
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
`},
	}},
	{name: "readiness is not kept", fails: "NP27", edits: []edit{
		{health, "	if time.Since(c.checked) > readyFor {", "	if time.Since(c.checked) > 0 {"},
	}},
	{name: "only a good answer of readiness is kept", fails: "NP27", edits: []edit{
		{health, "		c.checked = time.Now()\n", "		if c.err == nil {\n			c.checked = time.Now()\n		}\n"},
	}},
	{name: "a busy service is not ready", fails: "NP27/a_busy_service_is_ready", edits: []edit{
		{health, "	if answers && now.InUse >= now.MaxSessions {", "	if false && answers {"},
		{health, "	if is(nopool.ErrPoolerFull)(err) || answers && is(nopool.ErrBusy, ", "	if answers && is("},
	}},

	{name: "a flush does not commit", fails: "NP28", edits: []edit{
		{responses, `	if err := h.stream(); err != nil {
		return err
	}
	h.status =`, `	h.send()
	h.status =`},
	}},
	{name: "a full buffer does not commit", fails: "NP28", edits: []edit{
		{responses, "		if err := h.stream(); !errors.Is(err, nopool.ErrSessionBusy) {\n			return err\n		}\n", "		h.send()\n		return nil\n"},
	}},
	{name: "a hijack does not commit", fails: "NP28", edits: []edit{
		{responses, `	if err := h.finish(); err != nil {
		return nil, nil, err
	}
	if`, `	if`},
	}},
	{name: "the answer to a handshake leaves at once", fails: "NP28", edits: []edit{
		{responses, "	interim := status < 200 && status != http.StatusSwitchingProtocols\n", "	interim := status < 200\n"},
	}},
	{name: "a failure after the commit point looks like the end", fails: "NP28", edits: []edit{
		{session, "			panic(http.ErrAbortHandler) // the client must see that the response is cut short\n", "			return\n"},
	}},
	{name: "a panic is answered where an answer has begun", fails: "NP28", edits: []edit{
		{middleware, "	if w.status != 0 {\n		panic(http.ErrAbortHandler)\n	}\n", ""},
	}},
}
