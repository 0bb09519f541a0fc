package pgtest

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"
)

// Within reports whether something comes true in time. What only has to happen some day is given far more time than it
// takes, since machines that run tests are busy.
func Within(limit time.Duration, come func() bool) bool {
	for deadline := time.Now().Add(limit); !come(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// Log keeps what is written to it, to be read at any time.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Tail returns the last ten lines, which is what a failing test shows.
func (l *Log) Tail() string {
	lines := strings.Split(strings.TrimSpace(l.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// Records returns the lines of JSON that have a message, or all for "".
func (l *Log) Records(message string) (found []map[string]any) {
	for line := range strings.Lines(l.String()) {
		var record map[string]any
		if json.Unmarshal([]byte(line), &record) == nil && (message == "" || record["msg"] == message) {
			found = append(found, record)
		}
	}
	return found
}

// Connections returns how many clients the server counts in the database of a URL from Database or PgBouncer, those of
// this package left out.
func Connections(t testing.TB, databaseURL string) (n int) {
	t.Helper()
	conn := connect(t, strings.TrimPrefix(parse(t, databaseURL).Path, "/"))
	defer conn.Close(bounded())
	err := conn.QueryRow(bounded(), `select count(*) from pg_stat_activity where datname = current_database()
		and backend_type = 'client backend' and application_name <> $1`, appName).Scan(&n)
	need(t, err)
	return n
}
