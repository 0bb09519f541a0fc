package verify

import (
	"context"
	"strings"
	"sync"

	"example.org/team/tiny-shop/internal/nopool"
	"example.org/team/tiny-shop/internal/standin"
)

var poolTypeParts = []part{
	{"NP01", "200 sessions over a cap of 4, stand-in", distinctDials},
	{"NP01", "200 sessions over a cap of 4, Postgres", distinctBackends},
}

const (
	manySessions = 200
	capOfMany    = 4
)

// distinctDials wants a connection for each session, with one transaction in it, while many wait for few slots.
func distinctDials(t *T) {
	pooler := standin.Start(t, standin.Options{TLS: true})
	s := on(t, pooler.URL(), func(o *options) { o.MaxSessions = capOfMany })
	together(manySessions, func(int) {
		t.wantErr(nil, s.run("select 1"), "session")
	})
	s.wantNoneLeft()
	if now := pooler.Stats(); now.Dials != manySessions || now.Peak > capOfMany {
		t.Errorf("%d sessions over a cap of %d made %d connections, %d at once", manySessions, capOfMany, now.Dials, now.Peak)
	}
	for _, conn := range pooler.Conns() {
		if n := strings.Count(";"+strings.ToLower(strings.Join(conn.Statements, ";")), ";begin"); n != 1 {
			t.Fatalf("connection %d carried %d transactions", conn.N, n)
		}
	}
}

// distinctBackends wants the same as Postgres itself sees it: a backend is known by its pid and the time it started.
func distinctBackends(t *T) {
	s := real(t, func(o *options) { o.MaxSessions = capOfMany })
	var mu sync.Mutex
	backends := map[string]int{}
	together(manySessions, func(int) {
		var backend string
		err := s.session(func(ctx context.Context, session *nopool.Session) error {
			return session.QueryRow(ctx, "select pid || ' ' || backend_start from pg_stat_activity where pid = pg_backend_pid()").Scan(&backend)
		})
		t.failIf(err != nil, "session: %v", err)
		mu.Lock()
		defer mu.Unlock()
		backends[backend]++
	})
	s.wantNoneLeft()
	if total, peak := s.relay.Total.Load(), s.relay.Peak.Load(); len(backends) != manySessions || total != manySessions || peak > capOfMany {
		t.Errorf("%d sessions over a cap of %d had %d backends and %d connections, %d at once", manySessions, capOfMany, len(backends), total, peak)
	}
}
