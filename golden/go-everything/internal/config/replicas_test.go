package config

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

// TestReplicasShareLogins wants one of four processes to give a wrong password twice, where one alone gives it three times.
func TestReplicasShareLogins(t *testing.T) {
	t.Parallel()
	for replicas, want := range map[string]int{"1": 3, "4": 2} {
		pooler := standin.Start(t, standin.Options{OnStartup: func(int) *pgproto3.ErrorResponse {
			return standin.Fatal("28P01", `password authentication failed for user "app"`)
		}})
		c, err := Load([]string{"APP_ENV=local", "DATABASE_URL=" + pooler.URL(), "DB_REPLICAS=" + replicas})
		if err != nil {
			t.Fatal(err)
		}
		db, err := nopool.Open(c.DB)
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			_ = db.Run(t.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
				_, err := s.Exec(ctx, "select 1")
				return err
			})
		}
		if dials := pooler.Stats().Dials; dials != want {
			t.Errorf("one of %s processes gives a wrong password %d times, want %d", replicas, dials, want)
		}
	}
}
