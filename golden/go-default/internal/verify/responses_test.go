package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"time"

	"example.com/demo/internal/config"
	"example.com/demo/internal/connect"
	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

// httpParts are the rules about what a client gets to see.
var httpParts = []part{
	{"NP24", "errors of a real database", realErrors},
	{"NP24", "connection strings", connectionStrings},
	{"NP25", "SQLSTATE to status", statuses},
	{"NP26", "correlation ids", correlation},
	{"NP27", "health never asks the database", healthCostsNothing},
	{"NP27", "readiness asks once", readinessAsksOnce},
	{"NP27", "a busy service is ready", busyIsReady},
}

// realErrors provokes errors that quote what they were about, and looks for it
// in the responses, and in the log above debug.
func realErrors(t *T) {
	for _, level := range []slog.Level{slog.LevelInfo, slog.LevelDebug} {
		b := real(t, func(o *benchOptions) { o.level = level })
		b.exec("create table item (id int primary key, v text, constraint v_named check (v <> 'hushhush-row'))")
		b.exec("insert into item values (7, 'x')")
		quoting := map[string]struct {
			sql  string
			args []any
		}{
			"type":        {"select $1::int", []any{"hushhush-parameter"}},
			"unique":      {"insert into item values (7, $1)", []any{"hushhush-parameter"}},
			"check":       {"insert into item values (8, $1)", []any{"hushhush-row"}},
			"sql":         {"select hushhush_column from hushhush_table", nil},
			"raised":      {"do $$ begin raise exception 'hushhush-message' using detail = 'hushhush-detail'; end $$", nil},
			"unencodable": {"select $1::int", []any{struct{ V string }{"hushhush-parameter"}}},
		}
		for name, q := range quoting {
			b.handle("POST /"+name, func(_ http.ResponseWriter, r *http.Request, s *nopool.Session) error {
				_, err := s.Exec(r.Context(), q.sql, q.args...)
				return err
			})
			a := b.do(context.Background(), "POST", "/"+name)
			if a.status < 400 || strings.Contains(fmt.Sprint(a.header, a.body), "hushhush") || strings.Contains(a.body, "127.0.0.1") {
				t.Errorf("%s: %d %v %s", name, a.status, a.header, a.body)
			}
		}
		log := b.log.String()
		if level == slog.LevelInfo && strings.Contains(log, "hushhush") {
			t.Errorf("the log above debug quotes data: %s", log)
		}
		if !strings.Contains(log, "v_named") || !strings.Contains(log, "42P01") {
			t.Errorf("the log says neither SQLSTATE nor constraint: %s", log)
		}
		if word := password(b.url); word != "" && strings.Contains(log, word) {
			t.Errorf("the password is in the log")
		}
	}
}

func password(databaseURL string) string {
	_, rest, _ := strings.Cut(databaseURL, "://")
	user, _, _ := strings.Cut(rest, "@")
	_, word, _ := strings.Cut(user, ":")
	return word
}

// connectionStrings are wrong in ways that people get them wrong; none of
// their words may come back.
func connectionStrings(t *T) {
	const word = "hushhush"
	for _, url := range []string{
		"posgres://app:hushhush@h/x?sslmode=bogus", "postgres://app:hushhush@h:port/d", "postgres://app:hush%zzhushhush@h/d",
		"postgres://app:hushhush", "password = hushhush host", "hushhush", "postgres//app:hushhush@h/d",
		"host=h user=app password='hushhush sslmode=require", "postgres://app:hushhush@h/d?sslmode=require&password=hushhush&frobnicate=hushhush",
		"postgres://app:hushhush@h/d?sslmode=verify-full&sslrootcert=/no/hushhush.pem",
	} {
		if _, err := connect.Parse(url, connect.Options{AllowPlaintext: true}); err == nil || strings.Contains(err.Error(), word) {
			t.Errorf("Parse says: %v", err)
		}
		_, err := config.Load(func(name string) string { return map[string]string{"DATABASE_URL": url}[name] })
		if err == nil || strings.Contains(err.Error(), word) || !strings.Contains(err.Error(), "DATABASE_URL") {
			t.Errorf("Load says: %v", err)
		}
	}
	good := map[string]string{"DATABASE_URL": "postgres://app:hushhush@h/d?sslmode=require"}
	cfg, err := config.Load(func(name string) string { return good[name] })
	if err != nil {
		t.Fatal(err)
	}
	asJSON, _ := json.Marshal(cfg)
	logged := &logBuffer{}
	slog.New(slog.NewTextHandler(logged, nil)).Info("config", "value", cfg, "pointer", &cfg)
	if all := fmt.Sprintf("%v %+v %#v %s %s", cfg, cfg, cfg, asJSON, logged); strings.Contains(all, word) {
		t.Errorf("a printed Config holds the password")
	}
	b := on(t, strings.Replace(absent(t), "stand-in-secret", word, 1), func(o *benchOptions) { o.ConnectTimeout = 300 * time.Millisecond })
	if err := b.run("select 1"); err == nil || strings.Contains(err.Error()+b.log.String(), word) {
		t.Errorf("a refused connection says: %v", err)
	}
}

// statuses lets the database fail in each way and compares what the client is
// told.
func statuses(t *T) {
	pooler := standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if code, ok := strings.CutPrefix(sql, "raise "); ok {
			r.Error = standin.Error(code, "hushhush")
		}
		return r
	}})
	b := on(t, pooler.URL())
	b.handle("POST /{code}", func(_ http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		_, err := s.Exec(r.Context(), "raise "+r.PathValue("code"))
		return err
	})
	for status, codes := range map[int]string{
		http.StatusBadRequest:          "22P02 22001 22003 22007 22021",
		http.StatusConflict:            "23505 23P01 23503",
		http.StatusUnprocessableEntity: "23502 23514",
		http.StatusServiceUnavailable:  "40001 40P01 55P03 53300 57P01",
		http.StatusGatewayTimeout:      "57014",
		http.StatusInternalServerError: "25006 42P01 42501 42601 22012 XX000",
	} {
		for code := range strings.FieldsSeq(codes) {
			a := b.want(status, "POST", "/"+code)
			if a.header.Get("Content-Type") != "application/problem+json" || a.problem["type"] == nil || a.problem["title"] == nil {
				t.Errorf("%s: not a problem: %s", code, a.body)
			}
			if (a.header.Get("Retry-After") != "") != (status == http.StatusServiceUnavailable) {
				t.Errorf("%s: Retry-After %q with status %d", code, a.header.Get("Retry-After"), status)
			}
		}
	}
}

// correlation sends ids good and bad, and looks for the one in use in the
// response, in its body, and in every log line of the request.
func correlation(t *T) {
	b := on(t, standin.Start(t, standin.Options{}).URL())
	before := len(b.log.records()) // of the start: no request has come yet
	b.handle("GET /", query("select 1"))
	b.handle("GET /bad", func(http.ResponseWriter, *http.Request, *nopool.Session) error { return errors.New("cause") })
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	parent := "00-" + trace + "-00f067aa0ba902b7-01"
	for _, c := range []struct{ id, parent, want string }{
		{"abc-123._X", "", "abc-123._X"}, {"abc", parent, "abc"}, {"", parent, trace}, {"no spaces", parent, trace},
		{strings.Repeat("x", 65), "", ""}, {"<script>", "", ""}, {"", "", ""},
		{"", "ff" + parent[2:], ""}, {"", strings.ToUpper(parent), ""}, {"", "00-" + strings.Repeat("0", 32) + parent[35:], ""},
	} {
		a := b.want(http.StatusInternalServerError, "GET", "/bad", "X-Request-ID", c.id, "traceparent", c.parent)
		id := a.header.Get("X-Request-ID")
		switch {
		case c.want != "" && id != c.want:
			t.Errorf("id %q, traceparent %q: got %q, want %q", c.id, c.parent, id, c.want)
		case c.want == "" && (len(id) < 8 || id == c.id || strings.Contains(parent, id)):
			t.Errorf("id %q, traceparent %q: got %q, want a new one", c.id, c.parent, id)
		}
	}
	first, second := b.want(200, "GET", "/"), b.want(200, "GET", "/")
	if first.header.Get("X-Request-ID") == second.header.Get("X-Request-ID") {
		t.Errorf("two requests have the same id")
	}
	b.wantNoneLeft()
	b.want(200, "GET", "/", "X-Request-ID", "the-one")
	b.wantNoneLeft()
	for _, message := range []string{"database session opened", "database session closed"} {
		ofRequest := func(line map[string]any) bool { return line["correlation_id"] == "the-one" }
		if !slices.ContainsFunc(b.log.lines(message), ofRequest) {
			t.Errorf("no line %q of the request", message)
		}
	}
	for _, line := range b.log.records()[before:] {
		if line["correlation_id"] == nil {
			t.Errorf("a line without correlation id: %v", line)
		}
	}
}

// probes serves the owner's own routes on a bench.
func (b *bench) probes() {
	server := httptest.NewServer(b.api.Handler())
	b.t.Cleanup(server.Close)
	b.http = server
}

func healthCostsNothing(t *T) {
	b := on(t, silent(t), func(o *benchOptions) { o.MaxSessions, o.ConnectTimeout = 1, time.Second })
	b.probes()
	for range 20 {
		if a := b.want(200, "GET", "/health"); a.took > time.Second {
			t.Errorf("health took %v", a.took)
		}
	}
	if n := b.relay.total.Load(); n != 0 {
		t.Errorf("health made %d connections", n)
	}
}

// readinessAsksOnce probes from many places: one session for all, its answer
// kept for a while, whatever it was, and bounded when there is none.
func readinessAsksOnce(t *T) {
	pooler := standin.Start(t, standin.Options{OnStatement: func(_ *standin.Conn, sql string) standin.Reply {
		return standin.Reply{Delay: 20 * time.Millisecond}
	}})
	b := on(t, pooler.URL())
	b.probes()
	together(20, func(int) { b.want(200, "GET", "/ready") })
	b.want(200, "GET", "/ready")
	if n := pooler.Stats().Dials; n != 1 {
		t.Errorf("21 probes made %d connections", n)
	}
	gone := on(t, silent(t))
	gone.probes()
	began := time.Now()
	together(20, func(int) { gone.want(http.StatusServiceUnavailable, "GET", "/ready") })
	if took := time.Since(began); took > 3*time.Second || gone.relay.total.Load() > 3 {
		t.Errorf("20 probes of a database that is gone took %v and %d connections", took, gone.relay.total.Load())
	}
}

// busyIsReady holds every slot: that is load, not failure.
func busyIsReady(t *T) {
	b := on(t, standin.Start(t, standin.Options{}).URL(), func(o *benchOptions) { o.MaxSessions = 1 })
	b.probes()
	_ = b.db.Run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
		_, err := s.Exec(ctx, "select 1")
		if a := b.want(200, "GET", "/ready"); a.took > 2*time.Second {
			t.Errorf("ready took %v", a.took)
		}
		return err
	})
	if n := b.relay.total.Load(); n != 1 {
		t.Errorf("readiness of a busy service made a connection")
	}
	// A pooler that is full of others' clients is no failure either.
	full := standin.Start(t, standin.Options{OnStartup: refuseAll})
	b = on(t, full.URL())
	b.probes()
	b.want(200, "GET", "/ready")
}
