package pgtest

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/demo/internal/localpg"
)

// Start runs a server for this test alone, stopped when the test ends: one that is wrong on purpose, or that the test
// stops and, with Start(t, server.Options), starts again on the same port. An empty Dir is a temporary folder.
func Start(t testing.TB, opts localpg.Options) *localpg.Server {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = filepath.Join(testDir(t), "cluster")
	}
	var server *localpg.Server
	var err error
	Within(time.Minute, func() bool { // the children of a server that was killed hold its memory for a moment
		server, err = launch(opts)
		return err == nil || !strings.Contains(err.Error(), "shared memory block")
	})
	need(t, err)
	t.Cleanup(server.Stop)
	return server
}
