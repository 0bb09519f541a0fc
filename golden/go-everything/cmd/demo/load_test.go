package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/demo/internal/config"
	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

// TestLoad sends 10,000 requests from 64 clients through a pooler that admits 15
// connections, refuses the next as Supavisor does, and frees a place 2 ms after
// its client has gone. None may fail, whether the places are one service's or
// shared by three.
func TestLoad(t *testing.T) {
	t.Parallel()
	for _, services := range []int{1, 3} {
		t.Run(strconv.Itoa(services), func(t *testing.T) {
			pooler := standin.Start(t, standin.Options{TLS: true, Auth: standin.SCRAM, MaxClients: 15, ReleaseLag: 2 * time.Millisecond})
			var dbs []*nopool.DB
			var urls []string
			for range services {
				db, url := serveQuery(t, "DATABASE_URL="+pooler.URL(), "DB_POOL_SIZE=15", "DB_REPLICAS="+strconv.Itoa(services),
					"DB_RESERVE=0", "DB_MAX_WAITING=64")
				dbs, urls = append(dbs, db), append(urls, url)
			}
			requests := 10_000
			if testing.Short() {
				requests = 1000
			}
			ask(t, urls, 64, requests)
			for _, db := range dbs {
				if err := db.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
			now := pooler.Stats()
			if now.Dials < requests || now.Peak > 15 || now.Rejected*100 >= now.Dials || now.Open != 0 {
				t.Errorf("the pooler counted %+v", now)
			}
		})
	}
}

// serveQuery serves a route with one query, in a service with these settings.
func serveQuery(t *testing.T, environ ...string) (db *nopool.DB, url string) {
	t.Helper()
	cfg, err := config.Load(environ)
	if err != nil {
		t.Fatal(err)
	}
	cfg.LogLevel = slog.LevelError
	s, err := newService(cfg, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s.api.Wrap(s.api.InSession(func(_ http.ResponseWriter, r *http.Request, session *nopool.Session) error {
		_, err := session.Exec(r.Context(), "select 1")
		return err
	})))
	t.Cleanup(web.Close)
	return s.db, web.URL
}

// ask shares requests out among clients, and those among services, and wants
// each to be answered with 200.
func ask(t *testing.T, urls []string, clients, requests int) {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, Timeout: time.Minute}
	var next, failed atomic.Int64
	var running sync.WaitGroup
	for i := range clients {
		running.Go(func() {
			for next.Add(1) <= int64(requests) {
				response, err := client.Get(urls[i%len(urls)])
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if response.StatusCode != http.StatusOK {
					failed.Add(1)
				}
			}
		})
	}
	running.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), requests)
	}
}
