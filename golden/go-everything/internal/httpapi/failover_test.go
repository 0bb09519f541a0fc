package httpapi

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/pgtest"
	"example.com/demo/internal/standin"
)

// TestFailover loses the primary under as many statements as there are slots, with the new
// one reachable at once under the same name.
func TestFailover(t *testing.T) {
	t.Parallel()
	const statement = 2 * time.Second
	pooler := standin.Options{OnStatement: func(_ *standin.Conn, sql string) (r standin.Reply) {
		if sql == "slow" {
			r.Delay = 800 * time.Millisecond
		}
		return r
	}}
	before, after := standin.Start(t, pooler), standin.Start(t, pooler)
	var gone atomic.Bool
	server, _ := serverOn(t, strings.Replace(before.URL(), "127.0.0.1", "localhost", 1), func(c *dbConfig) {
		c.StatementTimeout, c.ConnectTimeout = statement, 2*time.Second
		c.LookupFunc = func(context.Context, string) ([]string, error) {
			return []string{map[bool]string{false: "127.0.0.1", true: "127.0.0.2"}[gone.Load()]}, nil
		}
		c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			if host, _, _ := net.SplitHostPort(address); host == "127.0.0.1" {
				conn, err := new(net.Dialer).DialContext(ctx, network, address)
				return &pgtest.Lost{Conn: conn, Gone: &gone}, err
			}
			to, err := url.Parse(after.URL())
			if err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, network, to.Host)
		}
	})
	web := httptest.NewServer(server.Wrap(server.InSession(func(_ http.ResponseWriter, r *http.Request, s *nopool.Session) error {
		if _, err := s.Exec(r.Context(), "select 1"); err != nil {
			return err
		}
		_, err := s.Exec(r.Context(), r.URL.Path[1:])
		return err
	})))
	defer web.Close()
	get := func(path string) int {
		response, err := web.Client().Get(web.URL + path)
		if err != nil {
			t.Error(err)
			return 0
		}
		response.Body.Close()
		return response.StatusCode
	}
	for range 4 {
		go func() {
			if status := get("/slow"); status != http.StatusServiceUnavailable {
				t.Errorf("in flight: %d", status)
			}
		}()
	}
	for server.DB.Snapshot().Opened < 4 {
		time.Sleep(10 * time.Millisecond)
	}
	gone.Store(true)
	lostAt := time.Now()
	status := 0
	for time.Since(lostAt) < 30*time.Second && status != http.StatusOK {
		if status = get("/select"); status != http.StatusOK && status != http.StatusServiceUnavailable {
			t.Errorf("meanwhile: %d", status)
		}
	}
	took := time.Since(lostAt)
	t.Logf("the first success %v after the failover", took)
	if took > statement+5*time.Second {
		t.Errorf("failures for %v, want at most the statement timeout, %v, and 5 s", took, statement)
	}
}
