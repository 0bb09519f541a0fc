package main

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/demo/internal/standin"
)

// TestLoad sends 10,000 requests from 64 clients through a pooler that admits 15
// connections, refuses the next as Supavisor does, and frees a place 2 ms after
// its client has gone. None may fail, whether the places are one process's or
// shared by three.
func TestLoad(t *testing.T) {
	t.Parallel()
	for _, processes := range []int{1, 3} {
		t.Run(strconv.Itoa(processes), func(t *testing.T) {
			pooler := standin.Start(t, standin.Options{
				TLS: true, Auth: standin.SCRAM, MaxClients: 15, ReleaseLag: 2 * time.Millisecond,
				OnStatement: func(_ *standin.Conn, sql string) standin.Reply {
					if strings.Contains(sql, "from notes") {
						return standin.Reply{Rows: [][]string{}}
					}
					return standin.Reply{}
				},
			})
			var services []*process
			for range processes {
				services = append(services, serve(t, pooler.URL(), map[string]string{
					"DB_MAX_SESSIONS": "", "DB_POOL_SIZE": "15", "DB_REPLICAS": strconv.Itoa(processes), "DB_RESERVE": "0",
					"DB_MAX_WAITING": "64",
				}))
			}
			requests := 10_000
			if testing.Short() {
				requests = 1000
			}
			ask(t, services, 64, requests)
			for _, p := range services {
				p.stop()
			}
			now := pooler.Stats()
			if now.Dials < requests || now.Peak > 15 || now.Rejected*100 >= now.Dials || now.Open != 0 {
				t.Errorf("the pooler counted %+v", now)
			}
		})
	}
}

// ask shares requests out among clients, and those among services, and wants
// each to be answered with 200.
func ask(t *testing.T, services []*process, clients, requests int) {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, Timeout: time.Minute}
	var next, failed atomic.Int64
	var running sync.WaitGroup
	for i := range clients {
		url := services[i%len(services)].base + "/notes"
		running.Go(func() {
			for next.Add(1) <= int64(requests) {
				response, err := client.Get(url)
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
