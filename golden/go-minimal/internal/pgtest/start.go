package pgtest

import (
	"context"
	"path/filepath"
	"testing"

	"example.org/team/tiny-shop/internal/localpg"
)

// Start runs a server for this test alone, stopped when the test ends: one that is wrong on purpose, or that the test
// stops and, with Start(t, server.Options), starts again on the same port. An empty Dir is a temporary folder.
func Start(t testing.TB, opts localpg.Options) *localpg.Server {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = filepath.Join(testDir(t), "cluster")
	}
	server, err := localpg.Start(life, opts)
	need(t, err)
	stop := func() { _ = server.Stop(bounded()) }
	context.AfterFunc(life, stop)
	t.Cleanup(stop)
	return server
}
