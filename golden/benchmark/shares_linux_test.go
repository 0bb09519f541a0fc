package benchmark

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/demo/internal/pgtest"
)

// TestShares says whose work a session through PgBouncer is: what the clients do
// is ours to make less, what PgBouncer and Postgres do is not.
func TestShares(t *testing.T) {
	address := throughPgBouncer(t, pgtest.Database(t))
	for _, clients := range []int{1, 8} {
		for _, c := range contestants[:2] {
			t.Run("", func(t *testing.T) {
				run := c.open(t, address, max(10, clients))
				race(t.Context(), run, clients, *length) // to warm up
				pooler, server := cpu(t, "pgbouncer"), cpu(t, "postgres")
				s := race(t.Context(), run, clients, 2**length)
				pooler, server = cpu(t, "pgbouncer")-pooler, cpu(t, "postgres")-server
				each := func(d time.Duration) time.Duration { return (d / time.Duration(s.good)).Round(time.Microsecond) }
				t.Logf("%d clients, %-12s %v each; CPU: client %v, PgBouncer %v, Postgres %v",
					clients, c.name+":", each(s.took), each(s.cpu), each(pooler), each(server))
			})
		}
	}
}

// cpu returns what the running processes of a name have used (proc(5), utime and stime).
func cpu(t *testing.T, name string) (used time.Duration) {
	t.Helper()
	const tick = 10 * time.Millisecond
	pids, err := exec.Command("pgrep", "-x", name).Output()
	if err != nil {
		t.Fatalf("pgrep %s: %v", name, err)
	}
	for pid := range strings.FieldsSeq(string(pids)) {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			continue // it has ended
		}
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // the third on
		for _, field := range fields[11:13] {
			n, err := strconv.Atoi(string(field))
			if err != nil {
				t.Fatal(err)
			}
			used += time.Duration(n) * tick
		}
	}
	return used
}
