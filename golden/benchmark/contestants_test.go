//go:build unix

package benchmark

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"

	"example.com/demo/internal/connect"
	"example.com/demo/internal/nopool"
)

// question is what each session asks, in a transaction of its own.
const question = "select $1::int + 1"

// session is one unit of work: connect, begin, one query, commit, close.
type session func(context.Context) error

// contestant is a way to have sessions on a database, so many at once at most.
type contestant struct {
	name string
	open func(t testing.TB, url string, limit int) session
}

var contestants = []contestant{
	{"nopool", openNopool},
	{"pgx.Connect", openPgx},
	{"database/sql", openSQL},
	{"pgxpool", openPool}, // the price of not pooling, and what breaks a pooler in session mode
}

func openNopool(t testing.TB, url string, limit int) session {
	connector, err := connect.Parse(url, connect.Options{AppName: "benchmark"})
	if err != nil {
		t.Fatal(err)
	}
	db, err := nopool.Open(nopool.Config{
		Connector: connector, MaxSessions: limit, MaxWaiting: 1000, SessionWait: time.Minute,
		ConnectTimeout: time.Minute, StatementTimeout: time.Minute, LockTimeout: time.Minute, IdleInTransactionTimeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close(context.Background()) })
	return func(ctx context.Context) error {
		return db.Run(ctx, nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
			return s.QueryRow(ctx, question, 41).Scan(new(int))
		})
	}
}

func openPgx(_ testing.TB, url string, _ int) session {
	return func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		return inTransaction(ctx, conn)
	}
}

func openPool(t testing.TB, url string, limit int) session {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = int32(limit)
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return func(ctx context.Context) error { return inTransaction(ctx, pool) }
}

func inTransaction(ctx context.Context, db interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) // does nothing after the commit
	if err := tx.QueryRow(ctx, question, 41).Scan(new(int)); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

func openSQL(t testing.TB, url string, limit int) session {
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxIdleConns(0)
	db.SetMaxOpenConns(limit)
	t.Cleanup(func() { db.Close() })
	return func(ctx context.Context) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() // does nothing after the commit
		if err := tx.QueryRowContext(ctx, question, 41).Scan(new(int)); err != nil {
			return err
		}
		return tx.Commit()
	}
}

// score is what sessions of one kind came to.
type score struct {
	good, bad int64
	took, cpu time.Duration // cpu is this process's: that of the clients
	p99       time.Duration // of one, failed ones included
	mallocs   uint64
}

func (s score) rate() float64 { return float64(s.good) / s.took.Seconds() }

func (s score) failed() float64 { return 100 * float64(s.bad) / float64(max(1, s.good+s.bad)) }

// race lets so many clients run sessions for a time, one after the other each.
func race(ctx context.Context, run session, clients int, length time.Duration) (s score) {
	var good, bad atomic.Int64
	each := make([][]time.Duration, clients)
	before, started := usage(syscall.RUSAGE_SELF), time.Now()
	deadline := started.Add(length)
	var all sync.WaitGroup
	for client := range clients {
		all.Go(func() {
			for now := started; now.Before(deadline); {
				if run(ctx) == nil {
					good.Add(1)
				} else {
					bad.Add(1)
				}
				before := now
				now = time.Now()
				each[client] = append(each[client], now.Sub(before))
			}
		})
	}
	all.Wait()
	sorted := slices.Sorted(slices.Values(slices.Concat(each...)))
	return score{good: good.Load(), bad: bad.Load(), took: time.Since(started), cpu: usage(syscall.RUSAGE_SELF) - before,
		p99: sorted[len(sorted)*99/100]}
}

func usage(who int) time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(who, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var perSecond = regexp.MustCompile(`tps = ([0-9.]+)`)

// pgbench does the same in C, with a new connection for each transaction, and
// returns its transactions per second.
func pgbench(t testing.TB, url string, clients int, length time.Duration) float64 {
	program, err := exec.LookPath("pgbench")
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench"); err != nil && len(found) > 0 {
		program, err = found[len(found)-1], nil // Debian's place, not on everyone's PATH
	}
	if err != nil {
		t.Fatal("no pgbench on this machine: it comes with Postgres")
	}
	script := filepath.Join(t.TempDir(), "session.sql")
	if err := os.WriteFile(script, []byte("begin;\nselect 41 + 1;\ncommit;\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	seconds := strconv.Itoa(max(1, int(length.Seconds())))
	command := exec.Command(program, "-n", "-C", "-M", "simple", "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 8)), "-T", seconds, "-f", script, url)
	output, err := command.CombinedOutput()
	match := perSecond.FindSubmatch(output)
	if err != nil || match == nil {
		t.Fatalf("pgbench: %v\n%s", err, output)
	}
	rate, err := strconv.ParseFloat(string(match[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return rate
}

// spread is the median of ratios, with the least and the most.
func spread(ratios []float64) string {
	return fmt.Sprintf("%.2f (%.2f to %.2f)", median(ratios), least(ratios), most(ratios))
}

// interval is the geometric mean of ratios, with the bounds in which nineteen of twenty
// such means would lie.
func interval(ratios []float64) string {
	var sum, squares float64
	for _, ratio := range ratios {
		sum += math.Log(ratio)
		squares += math.Log(ratio) * math.Log(ratio)
	}
	n := float64(len(ratios))
	mean := sum / n
	bound := 2 * math.Sqrt(max(0, squares/n-mean*mean)/max(1, n-1))
	return fmt.Sprintf("%.3f (%.3f to %.3f)", math.Exp(mean), math.Exp(mean-bound), math.Exp(mean+bound))
}
