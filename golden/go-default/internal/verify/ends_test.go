package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"example.com/demo/internal/httpapi"
	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

// endParts are the rules about how a session ends. Each goes through the same table of all ways to end, and looks at what
// is a matter of its own.
var endParts = []part{
	{"NP04 NP05 NP06 NP07 NP08 NP19 NP23 NP28", "every way to end, stand-in", endsOnStandin},
	{"NP04 NP05 NP06 NP07 NP19", "every way to end, Postgres", endsOnPostgres},
}

// end is a way for a request to end that has written a row, and what must be seen of it: the answer, the row, and the
// last thing that the server heard.
type end struct {
	name   string
	rules  string // that a wrong answer breaks
	then   httpapi.SessionHandler
	read   bool          // a GET, which writes no row
	job    bool          // in DB.Run
	leaves string        // where the client goes away: in the "handler", a "select", the "commit"; or the "server" does, before it
	commit standin.Reply // to COMMIT
	status int           // of the answer; 0 if there must be none that looks complete
	code   string        // of the problem
	kept   bool          // the row
	last   string        // statement of the session, "" where it depends
	cut    bool          // the connection ends in the middle of a statement
}

var (
	errSecret = errors.New(hush)
	ends      = []end{
		{name: "nothing written", rules: "NP05", then: chosen(0), status: 200, kept: true, last: "commit"},
		{name: "large", rules: "NP05 NP19", then: large, status: 201, kept: true, last: "commit"},
		{name: "its own COMMIT", rules: "NP05", then: commits, status: 201, kept: true, last: "commit"},
		{name: "redirect", rules: "NP05", then: chosen(303), status: 303, kept: true, last: "commit"},
		{name: "read", rules: "NP23", read: true, then: chosen(0), status: 200, last: "commit"},
		{name: "status 400", rules: "NP06", then: chosen(400), status: 400, last: "rollback"},
		{name: "status 404", rules: "NP06", then: chosen(404), status: 404, last: "rollback"},
		{name: "status 410", rules: "NP06", then: chosen(410), status: 410, last: "rollback"},
		{name: "error", rules: "NP08", then: fails, status: 500, last: "rollback"},
		{name: "panic", rules: "NP08", then: panics(errSecret), status: 500, last: "rollback"},
		{name: "abort", rules: "NP08", then: panics(http.ErrAbortHandler), last: "rollback"},
		{name: "rows open", rules: "NP04", then: leavesRows(errSecret), status: 500},
		{name: "gone", rules: "NP06", then: waits, leaves: "handler", last: "rollback"},
		{name: "gone in a statement", rules: "NP04", then: query("select pg_sleep(20)"), leaves: "select", last: "select pg_sleep(20)", cut: true},
		{name: "gone in COMMIT", rules: "NP23", then: chosen(0), leaves: "commit", commit: standin.Reply{Delay: 300 * time.Millisecond}, kept: true, last: "commit"},
		{name: "an error ignored", rules: "NP19", then: ignores("raise 42703"), status: 500, code: "internal_error", last: "commit"},
		{name: "an error ignored by a read", rules: "NP19", read: true, then: ignores("raise 42703"), status: 500},
		{name: "a read is cut off", rules: "NP19", read: true, then: ignores("select pg_terminate_backend(pg_backend_pid())"), status: 503},
		{name: "read, and ended by the handler", rules: "NP19", read: true, then: ignores("rollback"), status: 500},
		{name: "read, with rows open", rules: "NP19", read: true, then: leavesRows(nil), status: 500},
		{name: "COMMIT refused", rules: "NP05 NP19", then: doubles, commit: refusal("23505"), status: 409, code: "already_exists", last: "commit"},
		{name: "COMMIT lost", rules: "NP19", then: large, commit: standin.Reply{Drop: true}, status: 500, code: "commit_unknown", last: "commit", cut: true},
		{name: "the server is gone before COMMIT", rules: "NP19", then: chosen(0), leaves: "server", status: 503, code: "database_unavailable"},
		{name: "job", rules: "NP07", job: true, then: chosen(0), status: 200, kept: true, last: "commit"},
		{name: "job with an error", rules: "NP07", job: true, then: fails, status: 500, last: "rollback"},
		{name: "job with a panic", rules: "NP07", job: true, then: panics(errSecret), status: 500, last: "rollback"},
		{name: "job that is cancelled", rules: "NP07", job: true, then: waits, leaves: "handler", last: "rollback"},
		{name: "COMMIT refused to a job", rules: "NP07", job: true, then: doubles, commit: refusal("23505"), status: 409, code: "already_exists", last: "commit"},
		{name: "flush", rules: "NP28", then: streams(flush, nil), status: 200, kept: true, last: "commit"},
		{name: "full buffer", rules: "NP28", then: streams(fill, nil), status: 200, kept: true, last: "commit"},
		{name: "hijack", rules: "NP28", then: streams(hijack, nil), status: 200, kept: true, last: "commit"},
		{name: "handshake", rules: "NP28", then: streams(upgrade, nil), status: 101, kept: true, last: "commit"},
		{name: "COMMIT refused at a flush", rules: "NP28", then: streams(flush, nil), commit: refusal("40001"), status: 503, last: "commit"},
		{name: "COMMIT refused at a handshake", rules: "NP28", then: streams(upgrade, nil), commit: refusal("40001"), status: 503, last: "commit"},
		{name: "error after a flush", rules: "NP28", then: streams(flush, func() error { return errSecret }), kept: true, last: "commit"},
		{name: "panic after a flush", rules: "NP28", then: streams(flush, func() error { panic(errSecret) }), kept: true, last: "commit"},
	}
)

// refusal is the answer that a statement failed. Where ! follows the code, the connection ends, too.
func refusal(code string) standin.Reply {
	code, fatal := strings.CutSuffix(code, "!")
	if fatal {
		return standin.Reply{Error: standin.Fatal(code, hush)}
	}
	return standin.Reply{Error: standin.Error(code, hush)}
}

// ended is an end that was gone through.
type ended struct {
	end
	ctx    context.Context // of the client
	leave  context.CancelFunc
	answer answer
}

// breaks fails the part for what is wrong with an end, if that is a matter of its rule.
func (t *T) breaks(wrong bool, rules, name, format string, args ...any) {
	t.Helper()
	t.failIf(wrong && strings.Contains(rules, t.rule), "%s: %s", name, fmt.Sprintf(format, args...))
}

// begin is about to go through the ends that a server can have.
func begin(which func(e end) bool) (all []*ended) {
	for _, e := range ends {
		if which(e) {
			ctx, leave := context.WithCancel(context.Background())
			all = append(all, &ended{end: e, ctx: ctx, leave: leave})
		}
	}
	return all
}

// undone is the rule that says that nothing is kept.
func (e *ended) undone() string { return map[bool]string{true: "NP07", false: "NP06"}[e.job] }

func (e *ended) path() string { return "/" + strings.ReplaceAll(e.name, " ", "-") }

// rows counts the end's row, where there is a database.
func (e *ended) rows(s *service) string {
	return s.value("select count(*) from item where name = '" + e.name + "'")
}

// goThrough sends a request for each of the ends, all at once, and looks at the answers.
func goThrough(s *service, all []*ended) {
	for _, e := range all {
		run := func(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
			sql := "insert into item values ('" + e.name + "')"
			if e.read {
				sql = "select '" + e.name + "'"
			}
			if _, err := session.Exec(r.Context(), sql); err != nil {
				return err
			}
			switch {
			case e.leaves == "handler":
				e.leave()
			case e.leaves == "server":
				s.terminate(session)
			case e.leaves == "select" && s.admin != nil: // a stand-in knows when
				time.AfterFunc(300*time.Millisecond, e.leave)
			}
			return e.then(w, r, session)
		}
		s.handle(e.path(), func(w http.ResponseWriter, r *http.Request, session *nopool.Session) error {
			if !e.job {
				return run(w, r, session)
			}
			return s.db.Run(r.Context(), nopool.TxOptions{}, func(ctx context.Context, session *nopool.Session) error {
				return run(w, r.WithContext(ctx), session)
			})
		})
	}
	together(len(all), func(i int) {
		e := all[i]
		e.answer = s.do(e.ctx, map[bool]string{true: "GET", false: "POST"}[e.read], e.path())
		e.leave()
		early := e.kept && s.admin != nil && e.rows(s) != "1" // as soon as the answer is there
		s.t.breaks(early, e.rules, e.name, "no row, or several, when its answer was there")
	})
	left := s.left()
	s.t.breaks(left != "", "NP04", "afterwards", "%s", left)
	for _, e := range all {
		e.judge(s.t, s.log.String())
	}
}

// terminate has the server end a session's connection, between two statements.
func (s *service) terminate(session *nopool.Session) {
	var pid int
	err := session.QueryRow(context.Background(), "select pg_backend_pid()").Scan(&pid)
	gone := s.value(fmt.Sprintf("pg_terminate_backend(%d, %d)", pid, soon.Milliseconds()))
	s.t.failIf(err != nil || gone != "true", "the server does not end a session's connection: %v", err)
	time.Sleep(500 * time.Millisecond) // for what it said to arrive, on a busy machine too
}

// judge compares the answer with what it must be.
func (e *ended) judge(t *T, log string) {
	a, id := e.answer, e.answer.header.Get("X-Request-ID")
	complete := a.err == nil
	wrong := complete != (e.status != 0) || complete && a.status != e.status
	t.breaks((e.leaves == "" || e.status != 0) && wrong, e.rules, e.name, "answered %d, %v: %.200q", a.status, a.err, a.body)
	t.breaks(strings.Contains(a.body, hush), "NP08", e.name, "the cause is in the response: %.200q", a.body)
	t.breaks(e.code != "" && a.problem["code"] != e.code, e.rules, e.name, "want code %s, got %.200q", e.code, a.body)
	unknown := a.problem["correlation_id"] != id || strings.Count(log, `"correlation_id":"`+id+`"`) < 2
	t.breaks(e.status == 500 && a.status == 500 && unknown, "NP08", e.name, "the log does not say what happened: %.200q", a.body)
}

// endsOnPostgres has the ends that a real server can have, and looks for the row.
func endsOnPostgres(t *T) {
	s := real(t)
	s.create("create table item (name text, unique (name) deferrable initially deferred)")
	all := begin(func(e end) bool {
		return e.leaves != "commit" && !e.commit.Drop && (e.commit.Error == nil || e.code != "")
	})
	goThrough(s, all)
	for _, e := range all {
		t.breaks(!e.kept && e.rows(s) != "0", e.undone(), e.name, "its row was kept")
	}
}

// endsOnStandin has all ends, and looks at what the server heard.
func endsOnStandin(t *T) {
	all := begin(func(e end) bool { return e.leaves != "server" })
	s := onStandin(t, standin.Options{OnStatement: func(c *standin.Conn, sql string) standin.Reply { return replyToEnds(all, c, sql) }})
	goThrough(s, all)
	cut := uint64(1) // the one whose handler ended the transaction is cut off politely
	conns := s.pooler.Conns()
	for _, conn := range conns {
		if conn.End != "" && !polite(&conn) {
			cut++
		}
	}
	for _, e := range all {
		e.judgeWire(t, conns)
	}
	now := s.db.Snapshot()
	t.breaks(now.Aborted != cut, "NP23", "afterwards", "%d were cut, %d are counted as aborted", cut, now.Aborted)
	unsaid := now.CommitUnknown == 0 || !strings.Contains(s.log.String(), "outcome unknown")
	t.breaks(unsaid, "NP19", "COMMIT lost", "neither counted nor logged as an unknown outcome")
	t.breaks(len(s.log.Records("panic")) == 0, "NP08", "panic", "it is not in the log")
}

// replyToEnds answers as a database would, but for what the ends say of COMMIT, and lets their clients leave.
func replyToEnds(all []*ended, c *standin.Conn, sql string) standin.Reply {
	reply, verb := asPostgres(c, sql), strings.ToLower(strings.Split(sql, " ")[0])
	for _, e := range all {
		if !e.carriedBy(c) {
			continue
		}
		if verb == "commit" {
			reply = e.commit
		}
		if verb == e.leaves {
			e.leave()
		}
	}
	return reply
}

// polite reports whether a client ended its transaction, and then the connection.
func polite(c *standin.Conn) bool { return c.End == standin.Terminated && c.Status == 'I' }

// asPostgres answers as a database would: to what takes its time, to what ends the connection, and to "raise CODE", which
// Postgres does not understand either.
func asPostgres(_ *standin.Conn, sql string) standin.Reply {
	if code, raised := strings.CutPrefix(sql, "raise "); raised {
		return refusal(code)
	}
	return standin.Reply{Hang: strings.Contains(sql, "pg_sleep"), Drop: strings.Contains(sql, "pg_terminate")}
}

// carriedBy reports whether a connection was that of the end.
func (e *ended) carriedBy(c *standin.Conn) bool {
	return strings.Contains(strings.Join(c.Statements, "\n"), "'"+e.name+"'")
}

// judgeWire compares what the server heard with what it must hear.
func (e *ended) judgeWire(t *T, conns []standin.Conn) {
	conns = slices.DeleteFunc(slices.Clone(conns), func(conn standin.Conn) bool { return !e.carriedBy(&conn) })
	t.breaks(len(conns) != 1, e.rules, e.name, "%d connections", len(conns))
	if len(conns) != 1 || e.last == "" {
		return
	}
	last := strings.ToLower(conns[0].Statements[len(conns[0].Statements)-1])
	rules := e.rules
	if e.last == "rollback" {
		rules = e.undone()
	}
	t.breaks(last != e.last, rules, e.name, "the last statement was %q, want %q", last, e.last)
	t.breaks(polite(&conns[0]) == e.cut, "NP23", e.name, "ended by %q in status %c", conns[0].End, conns[0].Status)
}
