package generator_test

import (
	"path"
	"strings"
)

// driver is another way to the database: what its module would offer, as far as it is
// used here, in a folder of the project, so that nothing has to be downloaded.
func driver(module, version, file, text string) []edit {
	folder := "third_party/" + module
	return []edit{
		{"go.mod", "module example.com/demo\n", "module example.com/demo\n\nreplace " + module + " => ./" + folder + "\n\nrequire " + module + " " + version + "\n"},
		{folder + "/go.mod", "", "module " + module + "\n\ngo 1.24\n"},
		{path.Join(folder, file), "", strings.TrimLeft(text, "\n")},
	}
}

const pqListener = `
package pq

import (
	"database/sql/driver"
	"errors"
	"time"
)

type ListenerEventType int

type Notification struct{ Channel, Extra string }

type Listener struct{ Notify chan *Notification }

func NewListener(name string, least, most time.Duration, event func(ListenerEventType, error)) *Listener {
	return &Listener{make(chan *Notification)}
}

func (l *Listener) Listen(channel string) error { return nil }
func (l *Listener) Close() error                { return nil }

func Open(dsn string) (driver.Conn, error) { return nil, errors.New("a stand-in") }
`

const golangMigrate = `
package migrate

import "errors"

var ErrNoChange = errors.New("no change")

type Migrate struct{}

func New(sourceURL, databaseURL string) (*Migrate, error) { return &Migrate{}, nil }

func (m *Migrate) Up() error             { return nil }
func (m *Migrate) Close() (error, error) { return nil, nil }
`

// ownerPlaces are edits by which the owner's program reaches the database by another way
// than the engine, or by a worse one.
var ownerPlaces = []mutation{
	// Other drivers, which nobody counts.
	{name: "lib/pq listens", linter: "depguard", edits: append(driver("github.com/lib/pq", "v1.10.9", "pq.go", pqListener),
		code("internal/listen/listen.go", `
// Notes tells of notes until ctx ends.
func Notes(ctx context.Context, url string, tell func(string)) error {
	listener := pq.NewListener(url, time.Second, time.Minute, nil)
	defer listener.Close()
	if err := listener.Listen("notes"); err != nil {
		return err
	}
	for {
		select {
		case n := <-listener.Notify:
			tell(n.Extra)
		case <-ctx.Done():
			return nil
		}
	}
}
`),
	)},
	{name: "lib/pq is asked for a connection", linter: "depguard", edits: append(driver("github.com/lib/pq", "v1.10.9", "pq.go", pqListener),
		edit{"internal/migrate/ping.go", "", `package migrate

import postgres "github.com/lib/pq"

// Ping reports whether the database answers.
func Ping(url string) error {
	conn, err := postgres.Open(url)
	if err != nil {
		return err
	}
	return conn.Close()
}
`},
	)},
	{name: "golang-migrate migrates at start", linter: "depguard", edits: append(driver("github.com/golang-migrate/migrate/v4", "v4.19.1", "migrate.go", golangMigrate),
		edit{"cmd/demo/automatic.go", "", `package main

import (
	"errors"

	"github.com/golang-migrate/migrate/v4"
)

// automatic applies what is new.
func automatic(url string) error {
	m, err := migrate.New("file://migrations", url)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := m.Up(); !errors.Is(err, migrate.ErrNoChange) {
		return err
	}
	return nil
}
`},
		edit{serve, "	s.warn()\n", "	s.warn()\n	if err := automatic(os.Getenv(\"MIGRATION_DATABASE_URL\")); err != nil {\n		return err\n	}\n"},
		imports(serve, "os"),
	)},
	{name: "another mapper brings its driver", linter: "depguard", edits: append(driver("github.com/uptrace/bun/driver/pgdriver", "v1.2.15", "pgdriver.go", `
package pgdriver

import (
	"context"
	"database/sql/driver"
	"errors"
)

type Connector struct{}

func NewConnector(dsn string) *Connector { return &Connector{} }

func (c *Connector) Connect(ctx context.Context) (driver.Conn, error) { return nil, errors.New("a stand-in") }
`),
		code("internal/reports/reports.go", `
// Ping reports whether the database of the reports answers.
func Ping(ctx context.Context, url string) error {
	conn, err := pgdriver.NewConnector(url).Connect(ctx)
	if err != nil {
		return err
	}
	return conn.Close()
}
`),
	)},
	{name: "a probe of one's own dials the database", source: "NP03", edits: []edit{
		code("internal/httpapi/port.go", `
// port reports whether something listens where the database should be.
func port(w http.ResponseWriter, r *http.Request) {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(os.Getenv("DB_HOST"), "5432"), time.Second)
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	conn.Close()
	w.WriteHeader(http.StatusNoContent)
}
`),
		route(`mux.HandleFunc("GET /port", port)`),
	}},
	{name: "the service waits for the port of its database", source: "NP03", edits: []edit{
		code("cmd/demo/wait.go", `
func waitFor(ctx context.Context, address string) error {
	dialer := net.Dialer{Timeout: time.Second}
	for {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
`),
		{serve, "	s.warn()\n", "	s.warn()\n	if err := waitFor(ctx, os.Getenv(\"DB_ADDRESS\")); err != nil {\n		return err\n	}\n"},
		imports(serve, "os"),
	}},
	{name: "TLS by hand, to see a certificate's end", source: "NP03", edits: []edit{
		code("internal/reports/reports.go", `
// CertificateUntil returns when the server's certificate ends.
func CertificateUntil(ctx context.Context, address string) (time.Time, error) {
	conn, err := new(tls.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return time.Time{}, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].NotAfter, nil
}
`),
	}},
	{name: "psql as a process", source: "NP03", edits: []edit{
		code("cmd/demo/vacuum.go", `
func (a app) vacuum(ctx context.Context) error {
	run := exec.CommandContext(ctx, "psql", os.Getenv("DATABASE_URL"), "-c", "vacuum notes")
	run.Stdout, run.Stderr = a.stdout, a.stderr
	return run.Run()
}
`),
		{command, "	case line == \"version\":\n", "	case line == \"vacuum\":\n		return a.vacuum(ctx)\n	case line == \"version\":\n"},
	}},
	{name: "pg_dump in a shell", source: "NP03", edits: []edit{
		code("internal/httpapi/backup.go", `
const dump = "pg_dump --format=custom --table=notes \"$DATABASE_URL\""

func backup(w http.ResponseWriter, r *http.Request) {
	run := exec.Command("sh", "-c", dump)
	run.Stdout = w
	if err := run.Run(); err != nil {
		w.WriteHeader(http.StatusInternalServerError)
	}
}
`),
		route(`mux.HandleFunc("GET /backup", backup)`),
	}},

	{name: "a dialer in a variable", source: "NP03", edits: []edit{
		code("internal/reports/reports.go", `
var dial = net.Dial

// Up reports whether the server of the reports is there.
func Up(address string) bool {
	conn, err := dial("tcp", address)
	if err == nil {
		conn.Close()
	}
	return err == nil
}
`),
	}},
	{name: "a program of Postgres by its path", source: "NP03", edits: []edit{
		code("internal/reports/reports.go", `
// Restore loads a backup.
func Restore(ctx context.Context, file, url string) error {
	args := []string{"/usr/bin/pg_restore", "--clean", "--dbname", url, file}
	return exec.CommandContext(ctx, args[0], args[1:]...).Run()
}
`),
	}},

	// What the examples say is what is deployed.
	{name: "the example asks for no certificate", source: "NP12", edits: []edit{
		{".env.example", ".com:5432/postgres?sslmode=verify-full&sslrootcert=prod-ca-2021.crt'", ".com:5432/postgres?sslmode=require'"},
	}},
	{name: "the example leaves sslmode away", source: "NP12", edits: []edit{
		{".env.example", ".com:5432/postgres?sslmode=verify-full&sslrootcert=prod-ca-2021.crt'", ".com:5432/postgres'"},
	}},
	{name: "the example of the migrations' address prefers TLS", source: "NP12", edits: []edit{
		{".env.example", ".co:5432/postgres?sslmode=verify-full&sslrootcert=prod-ca-2021.crt'", ".co:5432/postgres?sslmode=prefer'"},
	}},
	{name: "compose speaks plaintext", source: "NP12", edits: []edit{
		{"compose.yaml", "?sslmode=require", "?sslmode=disable"},
	}},
	{name: "compose's database has no certificate", source: "NP12", edits: []edit{
		{"compose.yaml", "      - ssl=on\n", "      - ssl=off\n"},
		{"compose.yaml", "?sslmode=require", ""},
	}},
	{name: "compose overrides where the service connects", source: "NP12", edits: []edit{
		{"compose.yaml", "    environment: *database\n", "    environment:\n      APP_ENV: local\n      PGSSLMODE: disable\n      DATABASE_URL: 'host=db port=5432 user=app password=app dbname=demo sslmode=allow'\n"},
	}},
	{name: "the example gives the password to whoever asks", source: "NP12", edits: []edit{
		{".env.example", "#DB_ALLOW_PLAIN_AUTH=false", "DB_ALLOW_PLAIN_AUTH=true"},
	}},
	{name: "the example is for this machine alone", source: "NP12", edits: []edit{
		{".env.example", "#APP_ENV=production", "APP_ENV=local"},
	}},
	{name: "compose's database lets everybody in", source: "NP12", edits: []edit{
		{"compose.yaml", "      POSTGRES_PASSWORD: app\n", "      POSTGRES_PASSWORD: app\n      POSTGRES_HOST_AUTH_METHOD: trust\n"},
	}},
}
