package httpapi

import (
	"context"
	"net/http"
	"testing"
	"time"

	"example.com/demo/internal/pgtest"
)

// TestExhaustion sends 200 writes to real servers that admit fewer connections
// than the service may open: all are stored.
func TestExhaustion(t *testing.T) {
	t.Parallel()
	for name, limited := range map[string]func(t *testing.T, url string) string{
		"clients of PgBouncer": func(t *testing.T, url string) string {
			return pgtest.PgBouncer(t, url, pgtest.PgBouncerOptions{PoolSize: 3, MaxClientConn: 4})
		},
		"server connections of PgBouncer": func(t *testing.T, url string) string {
			return pgtest.PgBouncer(t, url, pgtest.PgBouncerOptions{PoolSize: 3})
		},
		"connections of a database": func(t *testing.T, url string) string {
			sql := "do $$ begin execute format('alter database %I connection limit 4', current_database()); end $$"
			if _, err := pgtest.Admin(t, url).Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
			return url
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct := pgtest.Database(t)
			admin := pgtest.Admin(t, direct)
			if _, err := admin.Exec(t.Context(), "create table t (n int); grant all on t to public"); err != nil {
				t.Fatal(err)
			}
			web, server, _ := serveRows(t, limited(t, direct), func(c *dbConfig) {
				c.MaxSessions, c.MaxWaiting, c.SessionWait, c.ConnectTimeout = 12, 32, 20*time.Second, 20*time.Second
			})
			server.RequestTimeout = time.Minute
			for i, a := range writeAll(t, web, 200) {
				if a.status != http.StatusCreated {
					t.Fatalf("write %d: %d %s", i, a.status, a.problem.Code)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := server.DB.Close(ctx); err != nil {
				t.Error(err)
			}
			var stored int
			if err := admin.QueryRow(t.Context(), "select count(*) from t").Scan(&stored); err != nil || stored != 200 {
				t.Errorf("%d rows are stored, %v", stored, err)
			}
		})
	}
}
