package verify

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

var lifecycleParts = []part{
	{"NP09", "a database out of reach, and wrong configurations", failsAtStart},
	{"NP09", "a database that comes late", lateAtStart},
	{"NP10", "a session under way", signalledInSession},
	{"NP10", "time to notice, and a second signal", signalledTwice},
	{"NP11 NP26", "log lines and counters", monitoring},
}

// program is the service's command, built once for all parts, in the folder that goes with the tests.
var program = sync.OnceValues(func() (path string, err error) {
	path = filepath.Join(os.TempDir(), "program")
	build := exec.Command("go", "build", "-o", path, "./cmd/demo")
	build.Dir = moduleDir()
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return path, nil
})

// process is a run of the program, with settings of its own and no other.
type process struct {
	t           *T
	cmd         *exec.Cmd
	said        *pgtest.Log     // on stdout and stderr
	life, ended context.Context // done when it is killed, and when it has ended
}

// start runs the program with a database and more settings, as NAME=value.
func start(t *T, databaseURL string, args []string, settings ...string) *process {
	t.Helper()
	path, err := program()
	t.need(err)
	life, kill := context.WithTimeout(context.Background(), lifetime)
	ended, end := context.WithCancel(context.Background())
	p := &process{t: t, cmd: exec.CommandContext(life, path, args...), said: &pgtest.Log{}, life: life, ended: ended}
	p.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "APP_ENV=local", "LOG_FORMAT=json",
		"DATABASE_URL=" + databaseURL, "HTTP_ADDR=127.0.0.1:0", "DB_MAX_SESSIONS=4",
	}, settings...)
	p.cmd.Stderr, p.cmd.Stdout = p.said, p.said
	t.need(p.cmd.Start())
	go func() {
		defer end()
		_ = p.cmd.Wait() // the status says it
	}()
	t.Cleanup(func() { kill(); <-ended.Done() })
	return p
}

// soon is far more than the program takes for a step, on a busy machine too, and lifetime for all that it does here.
const soon, lifetime = 30 * time.Second, time.Minute

// wait wants the process to end, and returns its status.
func (p *process) wait() int {
	p.t.Helper()
	<-p.ended.Done()
	p.t.failIf(p.life.Err() != nil, "still running after %v: %s", lifetime, p.said.Tail())
	return p.cmd.ProcessState.ExitCode()
}

// says waits for a text in what the program logs, or for its end, and reports whether it was there.
func (p *process) says(text string) bool {
	return pgtest.Within(soon, func() bool {
		return strings.Contains(p.said.String(), text) || p.ended.Err() != nil
	}) && strings.Contains(p.said.String(), text)
}

// listening matches the line that says where the program listens, however the owner's logs are written.
var listening = regexp.MustCompile(`listening.*(127\.0\.0\.1:\d+)`)

// address waits until the program listens, and returns where.
func (p *process) address() string {
	p.t.Helper()
	if !p.says("listening") {
		p.t.Fatal("it does not listen:", p.said.Tail())
	}
	return "http://" + listening.FindStringSubmatch(p.said.String())[1]
}

// status is the status of a GET, 0 if there is no answer.
func status(url string) int {
	response, err := (&http.Client{Timeout: soon}).Get(url)
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}

// absent is a database where nothing listens.
const absent = "postgres://app:" + standin.Password + "@127.0.0.1:1/app?sslmode=require"

// silent runs a server that accepts connections and never answers.
func silent(t *T) *standin.Server {
	t.Helper()
	return standin.Start(t, standin.Options{TLS: true, OnStep: func(int, standin.Step) standin.Fault { return standin.Hang }})
}

// failsAtStart has a database out of reach, which is tried until the time is over, and wrong configurations, where trying
// again cannot help: there the program exits at once, after a single attempt, or two where the password is refused, since
// Supavisor refuses a new one once. It ends with a status that says so, one
// clear line, and the password nowhere.
func failsAtStart(t *T) {
	plain := standin.Start(t, standin.Options{Auth: standin.SCRAM})
	scram := standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM})
	const soonOver, long = "DB_STARTUP_TIMEOUT=1s DB_CONNECT_TIMEOUT=500ms", "DB_STARTUP_TIMEOUT=5m"
	cases := []struct {
		url, settings string
		least         time.Duration
	}{
		{absent, soonOver, 900 * time.Millisecond},
		{silent(t).URL(), soonOver, 900 * time.Millisecond},
		{strings.Replace(scram.URL(), standin.Password, standin.Password+"-not", 1), long, 3 * time.Second}, // else a crash loop would have its address blocked
		{withMode(plain.URL(), "require"), long, 0},                                                         // which it has not got
		{strings.Replace(plain.URL(), "postgres://", "posgres://", 1), long, 0},
	}
	together(len(cases), func(i int) {
		p, began := start(t, cases[i].url, nil, strings.Fields(cases[i].settings)...), time.Now()
		code, took := p.wait(), time.Since(began)
		lines := regexp.MustCompile(`(?m)^[^{\n].*`).FindAllString(p.said.String(), -1) // those that are no log's
		t.failIf(code == 0 || took < cases[i].least || listening.MatchString(p.said.String()), "start %d: status %d after %v: %s", i, code, took, p.said.Tail())
		t.failIf(len(lines) != 1 || !strings.Contains(lines[0], "error"), "start %d: want one clear line, got %d: %s", i, len(lines), p.said.Tail())
		t.failIf(strings.Contains(p.said.String(), standin.Password), "start %d: the password is in the output: %s", i, p.said.Tail())
	})
	one, other := plain.Stats().Dials, scram.Stats().Dials
	t.failIf(one != 1 || other != 2, "%d connections to a server without TLS, %d with a wrong password", one, other)
}

// lateAtStart starts the program before its database lets anybody in, with a password that the pooler has yet to learn: it listens when a whole session was answered.
func lateAtStart(t *T) {
	pooler := standin.Start(t, standin.Options{TLS: true, OnStartup: func(n int) *pgproto3.ErrorResponse {
		if n == 1 {
			return standin.Fatal("28P01", "password authentication failed for user \"app\"")
		}
		if n < 5 {
			return standin.Fatal("57P03", "the database system is starting up")
		}
		return nil
	}})
	start(t, pooler.URL(), nil, "PGSERVICE=psql's", "PGSSLCERT=absent", "PGCONNECT_TIMEOUT=soon").address() // what the URL says holds
	for _, conn := range pooler.Conns() {
		if said := strings.ToLower(strings.Join(conn.Statements, ";")); strings.HasPrefix(said, "begin") && strings.Contains(said, "version()") {
			return
		}
	}
	t.Errorf("it listened and never asked for version() in a session: %v", pooler.Conns())
}

// signalledInSession stops the program while its readiness check waits for the database: before it exits the request is
// answered, its session is ended, and the server has closed the connection, for which it takes longer than the program
// would to exit.
func signalledInSession(t *T) {
	began, release := make(chan struct{}, 100), make(chan struct{})
	pooler := standin.Start(t, standin.Options{TLS: true, ReleaseLag: 3 * time.Second, OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if strings.Contains(sql, "select 1") {
			began <- struct{}{}
			<-release
		}
		return r
	}})
	p := start(t, pooler.URL(), nil)
	at := p.address()
	answered := make(chan int, 1)
	go func() { answered <- status(at + "/ready") }()
	select {
	case <-began:
	case <-time.After(soon):
		t.Errorf("readiness never asked the database")
	}
	t.need(p.cmd.Process.Signal(syscall.SIGINT))
	p.says("stopping")
	time.Sleep(200 * time.Millisecond) // for what it would do at once
	close(release)
	t.failIf(<-answered != 200, "the request under way was not answered with 200")
	code := p.wait()
	t.failIf(code != 0, "status %d: %s", code, p.said.Tail())
	t.failIf(pooler.Stats().Open > 0, "it ended while the server still counted %d connections", pooler.Stats().Open)
	for _, conn := range pooler.Conns() {
		t.failIf(conn.End != standin.Terminated, "connection %d ended by %q", conn.N, conn.End)
	}
}

// signalledTwice gives load balancers time to notice, and then none.
func signalledTwice(t *T) {
	p := start(t, standin.Start(t, standin.Options{TLS: true}).URL(), nil, "SHUTDOWN_DELAY=5m")
	at := p.address()
	t.need(p.cmd.Process.Signal(syscall.SIGTERM))
	t.failIf(!pgtest.Within(soon, func() bool { return status(at+"/ready") == 503 }), "still ready after the signal")
	t.failIf(status(at+"/health") != 200, "a request before the end of SHUTDOWN_DELAY was not served")
	t.need(p.cmd.Process.Signal(syscall.SIGTERM))
	t.failIf(p.wait() == 0, "a run that was cut short ended with status 0")
}

// monitoring wants every open, close, commit, rollback and error in the log with its duration, in the counters, and no log
// line of a request without its correlation id.
func monitoring(t *T) {
	s := onStandin(t, standin.Options{OnStatement: asPostgres}, func(o *options) { o.requestTimeout = 2 * time.Second })
	before := len(s.log.Records("")) // of the start
	s.handle("GET /good", query("select 1"))
	s.handle("GET /bad", query("raise 42703"))
	s.want(200, "GET", "/good", "X-Request-ID", "good-one")
	s.want(500, "GET", "/bad", "X-Request-ID", "bad-one")
	s.wantNoneLeft()
	for _, line := range s.log.Records("")[before:] {
		t.failIf(line["correlation_id"] != "good-one" && line["correlation_id"] != "bad-one", "a line without correlation id: %v", line)
	}
	if t.rule == "NP26" {
		return
	}
	c := s.db.Snapshot()
	t.failIf(c.Opened != 2 || c.Closed != 2 || c.Committed != 1 || c.RolledBack != 1 || c.Dials != 2 || time.Since(c.LastOpened) > time.Minute, "counters: %+v", c)
	for message, level := range map[string]string{
		"database session opened": "DEBUG", "database session closed": "DEBUG", "database session error": "ERROR",
	} {
		lines := fmt.Sprint(s.log.Records(message))
		t.failIf(!strings.Contains(lines, "bad-one") || !strings.Contains(lines, level), "%q without the request or without level %s: %s", message, level, lines)
	}
	for _, line := range s.log.Records("database session closed") {
		t.failIf(line["duration"] == nil || line["outcome"] == nil, "a line without duration or outcome: %v", line)
	}
	s.handle("GET /late", query("select pg_sleep(20)"))
	s.want(http.StatusGatewayTimeout, "GET", "/late")
	t.failIf(len(s.log.Records("database session error")) != 2, "a session that ran out of its request's time left no error in the log")
	s = on(t, absent, func(o *options) { o.ConnectTimeout = 300 * time.Millisecond })
	t.failIf(s.run("select 1") == nil || s.db.Snapshot().OpenErrors != 1 || len(s.log.Records("database session error")) != 1, "a failed open is not counted or logged: %+v", s.db.Snapshot())
}
