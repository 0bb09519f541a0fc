package nopool_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.org/team/tiny-shop/internal/nopool"
	"example.org/team/tiny-shop/internal/pgtest"
)

// BenchmarkSession has one question answered in a transaction through PgBouncer,
// in turn with plain pgx: the ratio says what the layer is worth on any machine.
func BenchmarkSession(b *testing.B) {
	url := pgtest.PgBouncer(b, pgtest.Database(b), pgtest.PgBouncerOptions{})
	db := on(b, url, nil)
	var took, plain time.Duration
	for b.Loop() {
		started := time.Now()
		must(b, db.Run(b.Context(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
			return s.QueryRow(ctx, "select $1::int", 42).Scan(new(int))
		}))
		took += time.Since(started)
		started = time.Now()
		must(b, plainSession(b.Context(), url))
		plain += time.Since(started)
	}
	b.ReportMetric(0, "ns/op") // of the two together: of no use
	b.ReportMetric(took.Seconds()*1e6/float64(b.N), "µs/session")
	b.ReportMetric(plain.Seconds()/took.Seconds(), "x-plain-pgx")
}

func plainSession(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, "select $1::int", 42).Scan(new(int))
	})
}

// BenchmarkRejected asks for a session where neither a slot nor a place in the
// queue is free: what a request costs that the service has no room for.
func BenchmarkRejected(b *testing.B) {
	db := on(b, pgtest.Database(b), func(c *config) { c.MaxSessions, c.MaxWaiting = 1, 0 })
	holder := db.Session(b.Context(), nopool.TxOptions{})
	must(b, selectOne(b.Context(), holder))
	b.ReportAllocs()
	for b.Loop() {
		if err := db.Run(b.Context(), nopool.TxOptions{}, selectOne); !errors.Is(err, nopool.ErrBusy) {
			b.Fatal(err)
		}
	}
	must(b, holder.Rollback(b.Context()))
}
