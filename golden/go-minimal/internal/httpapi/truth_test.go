package httpapi

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.org/team/tiny-shop/internal/pgtest"
	"example.org/team/tiny-shop/internal/standin"
)

// answers are the status and problem of each write, by its number.
type answers []struct {
	status  int
	problem problem
}

// writeAll asks for rows 0 to n-1 from 32 clients at once.
func writeAll(t *testing.T, web *httptest.Server, n int) answers {
	t.Helper()
	got := make(answers, n)
	var next atomic.Int64
	var clients sync.WaitGroup
	for range 32 {
		clients.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				got[i].status, got[i].problem = post(t, web, strconv.Itoa(i))
			}
		})
	}
	clients.Wait()
	return got
}

// want compares what was answered with what is stored: a success is, a failure
// is not, and only where nobody can know may it be either. It returns how many
// there were of each.
func (got answers) want(t *testing.T, stored func(i int) bool) (successes, failures, unknown int) {
	t.Helper()
	for i, a := range got {
		switch {
		case a.problem.Code == "commit_unknown":
			unknown++
		case a.status == http.StatusCreated:
			successes++
			if !stored(i) {
				t.Errorf("write %d was acknowledged and is lost", i)
			}
		default:
			failures++
			if stored(i) {
				t.Errorf("write %d is stored and was answered with %d %s", i, a.status, a.problem.Code)
			}
		}
		if strings.Contains(a.problem.Detail, "secret") || strings.Contains(a.problem.Detail, "SQLSTATE") {
			t.Errorf("write %d: a detail leaks: %s", i, a.problem.Detail)
		}
	}
	t.Logf("%d successes, %d failures, %d of unknown outcome", successes, failures, unknown)
	return successes, failures, unknown
}

// TestTruth lets COMMIT fail, get lost on its way, or have its answer lost or
// held back, at random.
func TestTruth(t *testing.T) {
	t.Parallel()
	const writes = 2000
	var mu sync.Mutex
	pending, stored := map[int]string{}, map[string]bool{}
	replies := []standin.Reply{
		{}, {}, {}, {}, {}, {},
		{Error: standin.Error("40001", "could not serialize access to secret")},
		{Error: standin.Error("23505", "duplicate key: secret")},
		{Drop: true},
	}
	pooler := standin.Start(t, standin.Options{OnStatement: func(c *standin.Conn, sql string) standin.Reply {
		mu.Lock()
		defer mu.Unlock()
		if _, row, ok := strings.Cut(sql, "insert into t values "); ok {
			pending[c.N] = row
			return standin.Reply{}
		}
		if sql != "commit" {
			return standin.Reply{}
		}
		reply := replies[rand.IntN(len(replies))]
		if rand.IntN(100) == 0 {
			reply = standin.Reply{Hang: true}
		}
		// The row of a COMMIT that is not answered is there in every second case.
		stored[pending[c.N]] = reply.Error == nil && (!reply.Drop && !reply.Hang || rand.IntN(2) == 0)
		return reply
	}})
	web, server, _ := serveRows(t, pooler.URL(), func(c *dbConfig) { c.MaxSessions, c.Logger = 32, nil })
	got := writeAll(t, web, writes)
	wantNothingOpen(t, pooler, server.DB)
	successes, failures, unknown := got.want(t, func(i int) bool { return stored["("+strconv.Itoa(i)+")"] })
	if successes < writes/4 || failures < writes/20 || unknown < writes/20 {
		t.Error("not enough of each to prove anything")
	}
}

// cutting is a connection that is lost at its n-th write: before, or after.
type cutting struct {
	net.Conn
	writes, cutAt int
	after         bool
}

func (c *cutting) Write(p []byte) (n int, err error) {
	c.writes++
	if c.writes != c.cutAt {
		return c.Conn.Write(p)
	}
	if c.after {
		_, err = c.Conn.Write(p)
	}
	c.Conn.Close()
	return len(p), err
}

// TestTruthOfPostgres loses connections to a real server at each of their
// writes, COMMIT's among them.
func TestTruthOfPostgres(t *testing.T) {
	t.Parallel()
	const writes = 200
	url := pgtest.Database(t)
	admin := pgtest.Admin(t, url)
	if _, err := admin.Exec(t.Context(), "create table t (n int primary key); grant all on t to public"); err != nil {
		t.Fatal(err)
	}
	// A session writes about twelve times, SSLRequest first. What fails before its
	// start-up message is for other tests: too much of it opens the breaker.
	web, server, _ := serveRows(t, url, func(c *dbConfig) {
		c.MaxSessions, c.MaxWaiting, c.Logger = 8, 32, nil
		c.SessionWait = 10 * time.Second
		c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			return &cutting{Conn: conn, cutAt: 6 + rand.IntN(12), after: rand.IntN(2) == 0}, err
		}
	})
	got := writeAll(t, web, writes)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if err := server.DB.Close(ctx); err != nil {
		t.Error(err)
	}
	for pgtest.Connections(t, url) > 0 { // the server may not have seen yet what was cut
		time.Sleep(10 * time.Millisecond)
	}
	stored := map[int]bool{}
	rows, err := admin.Query(t.Context(), "select n from t")
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var n int
		if err := rows.Scan(&n); err != nil {
			t.Fatal(err)
		}
		stored[n] = true
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	if successes, _, unknown := got.want(t, func(i int) bool { return stored[i] }); successes < writes/4 || unknown < writes/100 {
		t.Error("not enough of each to prove anything")
	}
}
