package verify

import (
	"context"
	"sync"

	"example.com/demo/internal/nopool"
	"example.com/demo/internal/standin"
)

var poolTypeParts = []part{
	{"NP01", "200 sessions over a cap of 4, stand-in", distinctDials},
	{"NP01", "200 sessions over a cap of 4, Postgres", distinctBackends},
}

const (
	manySessions = 200
	capOfMany    = 4
)

// distinctDials wants a connection for each session, with one transaction in
// it, while many wait for few slots.
func distinctDials(t *T) {
	pooler := standin.Start(t, standin.Options{TLS: true})
	b := on(t, pooler.URL(), func(o *benchOptions) { o.MaxSessions = capOfMany })
	together(manySessions, func(int) {
		if err := b.run("select 1"); err != nil {
			t.Errorf("session: %v", err)
		}
	})
	b.wantNoneLeft()
	if got := pooler.Stats().Dials; got != manySessions {
		t.Errorf("%d sessions made %d connections", manySessions, got)
	}
	if peak := pooler.Stats().Peak; peak > capOfMany {
		t.Errorf("%d connections at once over a cap of %d", peak, capOfMany)
	}
	for _, conn := range pooler.Conns() {
		if n := count(conn.Statements, "begin"); n != 1 {
			t.Fatalf("connection %d carried %d transactions", conn.N, n)
		}
	}
}

// distinctBackends wants the same as Postgres itself sees it: a backend is
// known by its pid and the time it started.
func distinctBackends(t *T) {
	b := real(t, func(o *benchOptions) { o.MaxSessions = capOfMany })
	var mu sync.Mutex
	backends := map[string]int{}
	together(manySessions, func(int) {
		var backend string
		err := b.db.Run(context.Background(), nopool.TxOptions{}, func(ctx context.Context, s *nopool.Session) error {
			return s.QueryRow(ctx, "select pid || ' ' || backend_start from pg_stat_activity where pid = pg_backend_pid()").Scan(&backend)
		})
		if err != nil {
			t.Errorf("session: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		backends[backend]++
	})
	b.wantNoneLeft()
	if len(backends) != manySessions || b.relay.total.Load() != manySessions {
		t.Errorf("%d sessions had %d backends and %d connections", manySessions, len(backends), b.relay.total.Load())
	}
	if peak := b.relay.peak.Load(); peak > capOfMany {
		t.Errorf("%d connections at once over a cap of %d", peak, capOfMany)
	}
}

// count returns how many of the statements begin with a word.
func count(statements []string, word string) (n int) {
	for _, s := range statements {
		if len(s) >= len(word) && s[:len(word)] == word {
			n++
		}
	}
	return n
}
