package verify

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"example.com/demo/internal/connect"
	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

// responseParts are the rules about what a client gets to see.
var responseParts = []part{
	{"NP24", "errors of a real database", realErrors},
	{"NP24", "connection strings", connectionStrings},
	{"NP25", "SQLSTATE to status", statuses},
	{"NP26", "correlation ids", correlation},
	{"NP27", "health never asks the database, readiness once", probesCostNothing},
	{"NP27", "a busy service is ready", busyIsReady},
}

const hush = "hushhush" // is in all that nobody may see

// realErrors provokes errors that quote what they were about, and looks for it in the responses, and in the log above
// debug.
func realErrors(t *T) {
	for _, level := range []slog.Level{slog.LevelInfo, slog.LevelDebug} {
		s := real(t, func(o *options) { o.level = level })
		s.create("create table item (id int primary key, v text, constraint v_named check (v <> 'hushhush-row')); insert into item values (7, 'x')")
		for name, q := range map[string]struct {
			sql  string
			args []any
		}{
			"type":        {"select $1::int", []any{"hushhush-parameter"}},
			"unique":      {"insert into item values (7, $1)", []any{"hushhush-parameter"}},
			"check":       {"insert into item values (8, $1)", []any{"hushhush-row"}},
			"sql":         {"select hushhush_column from hushhush_table", nil},
			"raised":      {"do $$ begin raise exception 'hushhush-message' using detail = 'hushhush-detail'; end $$", nil},
			"unencodable": {"select $1::int", []any{struct{ V string }{"hushhush-parameter"}}},
		} {
			s.handle("POST /"+name, func(_ http.ResponseWriter, r *http.Request, session *nopool.Session) error {
				_, err := session.Exec(r.Context(), q.sql, q.args...)
				return err
			})
			a := s.do(context.Background(), "POST", "/"+name)
			t.failIf(a.status < 400 || strings.Contains(fmt.Sprint(a.header, a.body), hush) || strings.Contains(a.body, "127.0.0.1"), "%s: %d %v %s", name, a.status, a.header, a.body)
		}
		log := s.log.String()
		t.failIf(level == slog.LevelInfo && strings.Contains(log, hush), "the log above debug quotes data: %s", s.log.Tail())
		t.failIf(!strings.Contains(log, "v_named") || !strings.Contains(log, "42P01"), "the log says neither SQLSTATE nor constraint: %s", s.log.Tail())
		address, err := url.Parse(s.url)
		t.need(err)
		password, _ := address.User.Password()
		t.failIf(password != "" && strings.Contains(log, password), "the password is in the log")
	}
}

// connectionStrings are wrong in ways that people get them wrong; none of their words may come back.
func connectionStrings(t *T) {
	for _, url := range []string{
		"posgres://app:hushhush@h/x?sslmode=bogus", "postgres://app:hushhush@h:port/d", "postgres://app:hush%zzhushhush@h/d",
		"postgres://app:hushhush", "password = hushhush host", "hushhush", "postgres//app:hushhush@h/d",
		"host=h user=app password='hushhush sslmode=require", "postgres://app:hushhush@h/d?sslmode=require&password=hushhush&frobnicate=hushhush",
		"postgres://app:hushhush@h/d?sslmode=verify-full&sslrootcert=/no/hushhush.pem", "postgres://app:12/hushhush@h/d?sslmode=require",
		"postgres://app:12?hushhush@h/d?sslmode=require", "postgres://app:12#hushhush@h/d?sslmode=require", "postgres://app:x@h/d?sslmode=require&channel_binding=hushhush",
	} {
		_, err := load("DATABASE_URL=" + url)
		t.failIf(err == nil || strings.Contains(err.Error(), hush) || !strings.Contains(err.Error(), "DATABASE_URL"), "Load says: %v", err)
	}
	cfg, err := load("DATABASE_URL=postgres://app:hushhush@h/d?sslmode=require")
	t.need(err)
	t.failIf(strings.Contains(fmt.Sprintf("%v %+v %#v %v", cfg, cfg, &cfg, cfg.Database), hush), "a printed Config holds the password")
	s := on(t, strings.Replace(absent, standin.Password, hush, 1), func(o *options) { o.ConnectTimeout = 300 * time.Millisecond })
	err = s.run("select 1")
	t.failIf(err == nil || strings.Contains(err.Error()+connect.Explain(err)+s.log.String(), hush), "a refused connection says: %v", err)
	p := start(t, strings.Replace(absent, "/app?", "/hushhush?", 1), []string{"migrate", "status"})
	p.wait()
	t.failIf(strings.Contains(p.said.String(), hush), "migrate says: %s", p.said.Tail())
}

// statuses lets the database fail in each way and compares what the client is told.
func statuses(t *T) {
	s := onStandin(t, standin.Options{OnStatement: asPostgres})
	for status, codes := range map[int]string{
		http.StatusBadRequest:          "22P02 22001 22003 22007 22021",
		http.StatusConflict:            "23505 23P01 23503 23001",
		http.StatusUnprocessableEntity: "23502 23514",
		http.StatusServiceUnavailable:  "25006 40001 40P01 55P03 53300 57P01 22023! 42501! 3D000! XX000! 08P01!",
		http.StatusGatewayTimeout:      "57014 57014! 25P03! 25P04!",
		http.StatusInternalServerError: "08P01 42P01 42501 42601 22012 XX000",
	} {
		for code := range strings.FieldsSeq(codes) { // what ends the connection may be about another client of the pooler
			s.handle("POST /"+code, query("raise "+code))
			a := s.want(status, "POST", "/"+code)
			t.failIf(a.header.Get("Content-Type") != "application/problem+json" || a.problem["type"] == nil || a.problem["title"] == nil, "%s: not a problem: %s", code, a.body)
			id := a.header.Get("X-Request-ID")
			t.failIf(status < 500 && slices.ContainsFunc(s.log.Records(""), func(line map[string]any) bool {
				return line["correlation_id"] == id && line["level"] == "ERROR"
			}), "%s: a fault of the client's is logged as one of ours", code)
			t.failIf((a.header.Get("Retry-After") != "") != (status == http.StatusServiceUnavailable), "%s: Retry-After %q with status %d", code, a.header.Get("Retry-After"), status)
		}
	}
}

// correlation sends ids good and bad, and looks for the one in use in the response and, as want does, in its body.
func correlation(t *T) {
	s := onStandin(t, standin.Options{})
	s.handle("GET /", fails)
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	parent, used := "00-"+trace+"-00f067aa0ba902b7-01", map[string]bool{}
	for _, c := range []struct{ id, parent, want string }{
		{"abc-123._X", "", "abc-123._X"}, {"abc", parent, "abc"}, {"", parent, trace}, {"no spaces", parent, trace},
		{strings.Repeat("x", 65), "", ""}, {"<script>", "", ""}, {"", "", ""},
		{"", "ff" + parent[2:], ""}, {"", strings.ToUpper(parent), ""}, {"", "00-" + strings.Repeat("0", 32) + parent[35:], ""},
	} {
		id := s.want(http.StatusInternalServerError, "GET", "/", "X-Request-ID", c.id, "traceparent", c.parent).header.Get("X-Request-ID")
		isNew := len(id) >= 8 && id != c.id && !strings.Contains(parent, id) && !used[id]
		if used[id] = true; c.want != "" && id != c.want || c.want == "" && !isNew {
			t.Errorf("id %q, traceparent %q: got %q, want %q, or a new one", c.id, c.parent, id, c.want)
		}
	}
}

// probesCostNothing probes from many places: no session for health, one session for all who ask for readiness, its answer
// kept for a while, whatever it was, and bounded when there is none.
func probesCostNothing(t *T) {
	s := onStandin(t, standin.Options{OnStatement: func(*standin.Conn, string) standin.Reply {
		return standin.Reply{Delay: 20 * time.Millisecond}
	}})
	s.serve(s.api.Handler())
	together(20, func(int) { s.want(200, "GET", "/ready") })
	t.failIf(s.pooler.Stats().Dials != 1, "20 probes made %d connections", s.pooler.Stats().Dials)
	gone := on(t, silent(t).URL())
	gone.serve(gone.api.Handler())
	together(20, func(int) { gone.want(200, "GET", "/health") })
	t.failIf(gone.relay.Total.Load() != 0, "health made %d connections", gone.relay.Total.Load())
	together(20, func(int) { gone.want(http.StatusServiceUnavailable, "GET", "/ready") })
	t.failIf(gone.relay.Total.Load() > 3, "20 probes of a database that is gone made %d connections", gone.relay.Total.Load())
}

// busyIsReady holds every slot: that is load, not failure. Nor is a pooler that is full of others' clients.
func busyIsReady(t *T) {
	s := onStandin(t, standin.Options{}, func(o *options) { o.MaxSessions = 1 })
	s.serve(s.api.Handler())
	s.holding(func() { s.want(200, "GET", "/ready") })
	t.failIf(s.relay.Total.Load() != 1, "readiness of a busy service made a connection")
	s = onStandin(t, standin.Options{OnStartup: refuseAll})
	s.serve(s.api.Handler())
	ready := func() bool { return s.do(context.Background(), "GET", "/ready").status == 200 }
	t.failIf(!pgtest.Within(soon, ready), "a service whose pooler is full is not ready") // unless the probe's time is over in the middle of an attempt
}
