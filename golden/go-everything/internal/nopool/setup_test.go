package nopool_test

import (
	"context"
	"os"
	"testing"
	"time"

	"example.com/demo/internal/connect"
	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// database returns a DB on a new database, and that database's URL.
func database(t *testing.T) (*nopool.DB, string) {
	t.Helper()
	url := pgtest.Database(t)
	connector, err := connect.Parse(url, connect.Options{AllowPlaintext: true, AllowPlainAuth: true}) // TEST_DATABASE_URL may be plaintext
	must(t, err)
	db, err := nopool.Open(nopool.Config{Connector: connector, MaxSessions: 4, MaxWaiting: 10,
		SessionWait: 5 * time.Second, ConnectTimeout: 10 * time.Second, StatementTimeout: 10 * time.Second})
	must(t, err)
	t.Cleanup(func() { _ = db.Close(context.Background()) })
	return db, url
}

func selectOne(ctx context.Context, s *nopool.Session) error {
	_, err := s.Exec(ctx, "select 1")
	return err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
