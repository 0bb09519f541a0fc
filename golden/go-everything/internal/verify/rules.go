// Package verify checks what this service promises about its database connections, and reports it rule by rule.
//
// The rules are in this file. What can be seen of them from a configured database, without changing anything there, is
// checked by Live, which `demo verify` calls. Everything else, the checks of the source among them, lives in this
// package's tests: `go test -v ./internal/verify` prints the same report with every rule in it.
package verify

// Rule is one promise of this service. Its number never changes, so that code, tests, log lines and issues can name it.
type Rule struct {
	ID    string `json:"id"`    // NP01 to NP31
	Area  string `json:"area"`  // one of the six areas of the score, or "further"
	Title string `json:"title"` // the promise in a few words
	Why   string `json:"why"`   // one sentence: what goes wrong without it
	Do    string `json:"do"`    // one sentence: what to do when it fails
}

// The six areas of the score, and what lies beyond it. An area has passed when all its rules have.
const (
	poolType      = "pool type"
	migrations    = "migrations"
	oneEngine     = "one engine"
	sessions      = "session management"
	lifecycle     = "lifecycle and monitoring"
	configuration = "configuration"
	further       = "further"
)

// Rules are all rules in the order of the report: the fifteen checks of the score (NP01 to NP15), area by area, then the
// sixteen further ones.
var Rules = []Rule{
	{"NP01", poolType, "no pool in the main engine", "A connection handed from one session to another carries its settings, locks and failures along.", "Let each session dial; nothing in internal/nopool may hand a connection on."},
	{"NP14", poolType, "no pooled engine anywhere", "A second pool, added with good intent, takes connections that the pooler's budget does not have.", "Remove the pool and use a session, or allow it by a comment that says why."},
	{"NP15", poolType, "no shared connection anywhere", "A connection kept beyond its session is a pool of one: it holds a slot and goes stale unseen.", "Take a session where it is used, from the request or from DB.Run, and keep it nowhere."},
	{"NP02", migrations, "no pool in migrations", "Locks and settings of a migration belong to one connection; a second one does not have them.", "Keep both limits in internal/migrate at the constant 1, and close the handle."},
	{"NP03", oneEngine, "one engine, used from one place", "A connection opened beside the engine is not bounded, not logged and not closed by it.", "Use the session you are given; for work beside it, DB.Run in the goroutine."},
	{"NP04", sessions, "sessions always close", "A session that stays open after an error or a disconnect takes its slot away for good.", "Keep the deferred Rollback around every session, and close rows."},
	{"NP05", sessions, "commit on success", "A success answered before its COMMIT can turn out to be a write that never happened.", "Commit before anything of the response leaves."},
	{"NP06", sessions, "rollback on error", "Half of a failed request's writes would be kept.", "End a failed session with Rollback, whatever the failure was."},
	{"NP07", sessions, "a session for background work", "Work outside HTTP would otherwise open connections of its own, without these guarantees.", "Let DB.Run commit only when the function returned nil and its context lives."},
	{"NP08", sessions, "global error handler", "An error that escapes a handler would reach the client as it is, or as nothing at all.", "Keep recover in the middleware, and answer errors with problem()."},
	{"NP09", lifecycle, "start-up health check", "A service that starts without its database fails at its first user instead of at its deploy.", "Set DATABASE_URL to a database that answers, and keep the check before listening."},
	{"NP10", lifecycle, "shutdown cleanup", "A stopped service whose connections stay behind starves the one that replaces it.", "Keep the stop hooks in cmd, and raise SHUTDOWN_TIMEOUT if sessions need longer."},
	{"NP11", lifecycle, "connection monitoring", "A leak that nobody can see is found when the pooler is full.", "Keep the events and counters in internal/nopool/db.go."},
	{"NP12", configuration, "TLS enforced", "Without it the password and every row travel readable, or to whoever answers.", "Use sslmode=verify-full with the provider's certificate in sslrootcert."},
	{"NP13", configuration, "timeouts", "One statement or one lock without a bound holds its connection, and those behind it, for ever.", "Set each timeout above zero, and let them travel with BEGIN."},
	{"NP16", further, "explicit transactions", "A setting made outside the transaction stays in the pooler's backend for the next client.", "Begin with the options asked for, and set parameters for the transaction only."},
	{"NP17", further, "bounded", "More connections than the pooler admits turn load into errors.", "Lower DB_MAX_SESSIONS or DB_REPLICAS, or give the role and the pooler more."},
	{"NP18", further, "lazy", "A request that never asks the database must not wait for a connection.", "Open the session at its first query, not before."},
	{"NP19", further, "truthful", "A client that was told of success stops trying.", "Look at Commit's error, and keep an unknown outcome apart."},
	{"NP20", further, "survives exhaustion", "A full pooler passes; a wrong password does not, and trying it again locks everybody out.", "Add the pooler's wording to the table in internal/connect/refusal.go."},
	{"NP21", further, "one dial per attempt", "Fallbacks multiply the load on a pooler exactly when it is full.", "Keep one address and no fallbacks for each attempt."},
	{"NP22", further, "slot held to the end", "A slot freed before the server has closed lets the next session be refused.", "Free the slot after the server's close, in the background."},
	{"NP23", further, "kind to the pooler", "A connection dropped inside a transaction costs the pooler its warm backend.", "Send COMMIT or ROLLBACK on a context of its own before the close."},
	{"NP24", further, "nothing leaks", "Errors of a database quote hosts, SQL and the values of rows.", "Send fixed texts to clients, and log errors with nopool.Describe."},
	{"NP25", further, "the right status", "A client decides by the status whether to correct, retry or give up.", "Correct the table in internal/httpapi/problem.go."},
	{"NP26", further, "correlation", "A report from a user must lead to the log lines of that request.", "Keep the correlation middleware outermost, and log with the request's context."},
	{"NP27", further, "probes cost nothing", "Probes that open connections finish off a database that is only busy.", "Keep the database out of /health, and the cache in /ready."},
	{"NP28", further, "streaming", "Bytes that have left cannot be taken back when the COMMIT fails.", "Commit at Flush, Hijack and a full buffer, before the first byte."},
	{"NP29", further, "retry by the caller's word", "Only the caller knows whether running a function twice is right.", "Repeat only whole functions, in RunWithRetry, on 40001 and 40P01."},
	{"NP30", further, "migrations are safe", "Two replicas that migrate at once, or one behind the wrong pooler, break the schema for all.", "Run migrate up, through a direct or session-mode address in MIGRATION_DATABASE_URL."},
	{"NP31", further, "few round trips", "Every round trip is time in which the slot serves nobody else.", "Send BEGIN, the timeouts and the first query in one write, and nothing before or after."},
}
