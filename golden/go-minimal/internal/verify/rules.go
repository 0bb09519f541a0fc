// Package verify checks what this service promises about its database
// connections, and reports it rule by rule.
//
// The rules are in this file. What can be seen of them from a configured
// database, without changing anything there, is checked by Live, which
// `tiny-shop verify` calls. Everything else, the checks of the source among them,
// lives in this package's tests: `go test -v ./internal/verify` prints the
// same report with every rule in it.
package verify

// Rule is one promise of this service. Its number never changes, so that
// code, tests, log lines and issues can name it.
type Rule struct {
	ID    string `json:"id"`    // NP01 to NP31
	Area  string `json:"area"`  // one of the six areas of the score, or "further"
	Title string `json:"title"` // the promise in a few words
	Why   string `json:"why"`   // one sentence: what goes wrong without it
}

// Areas are the six areas of the score, in the order of the report. An area
// is passed when all its rules are.
var Areas = []string{
	poolType, migrations, oneEngine, sessions, lifecycle, configuration,
}

const (
	poolType      = "pool type"
	migrations    = "migrations"
	oneEngine     = "one engine"
	sessions      = "session management"
	lifecycle     = "lifecycle and monitoring"
	configuration = "configuration"
	further       = "further" // beyond the score
)

// Rules are all rules in the order of the report: the fifteen checks of the
// score (NP01 to NP15), area by area, then the sixteen further ones.
var Rules = []Rule{
	{"NP01", poolType, "no pool in the main engine", "A connection handed from one session to another carries its settings, locks and failures along."},
	{"NP14", poolType, "no pooled engine anywhere", "A second pool, added with good intent, takes connections that the pooler's budget does not have."},
	{"NP15", poolType, "no shared connection anywhere", "A connection kept beyond its session is a pool of one: it holds a slot and goes stale unseen."},
	{"NP02", migrations, "no pool in migrations", "Locks and settings of a migration belong to one connection; a second one does not have them."},
	{"NP03", oneEngine, "one engine, used from one place", "A connection opened beside the engine is not bounded, not logged and not closed by it."},
	{"NP04", sessions, "sessions always close", "A session that stays open after an error or a disconnect takes its slot away for good."},
	{"NP05", sessions, "commit on success", "A success answered before its COMMIT can turn out to be a write that never happened."},
	{"NP06", sessions, "rollback on error", "Half of a failed request's writes would be kept."},
	{"NP07", sessions, "a session for background work", "Work outside HTTP would otherwise open connections of its own, without these guarantees."},
	{"NP08", sessions, "global error handler", "An error that escapes a handler would reach the client as it is, or as nothing at all."},
	{"NP09", lifecycle, "start-up health check", "A service that starts without its database fails at its first user instead of at its deploy."},
	{"NP10", lifecycle, "shutdown cleanup", "A stopped service whose connections stay behind starves the one that replaces it."},
	{"NP11", lifecycle, "connection monitoring", "A leak that nobody can see is found when the pooler is full."},
	{"NP12", configuration, "TLS enforced", "Without it the password and every row travel readable, or to whoever answers."},
	{"NP13", configuration, "timeouts", "One statement or one lock without a bound holds its connection, and those behind it, for ever."},
	{"NP16", further, "explicit transactions", "A setting made outside the transaction stays in the pooler's backend for the next client."},
	{"NP17", further, "bounded", "More connections than the pooler admits turn load into errors."},
	{"NP18", further, "lazy", "A request that never asks the database must not wait for a connection."},
	{"NP19", further, "truthful", "A client that was told of success stops trying."},
	{"NP20", further, "survives exhaustion", "A full pooler passes; a wrong password does not, and trying it again locks everybody out."},
	{"NP21", further, "one dial per attempt", "Fallbacks multiply the load on a pooler exactly when it is full."},
	{"NP22", further, "slot held to the end", "A slot freed before the server has closed lets the next session be refused."},
	{"NP23", further, "kind to the pooler", "A connection dropped inside a transaction costs the pooler its warm backend."},
	{"NP24", further, "nothing leaks", "Errors of a database quote hosts, SQL and the values of rows."},
	{"NP25", further, "the right status", "A client decides by the status whether to correct, retry or give up."},
	{"NP26", further, "correlation", "A report from a user must lead to the log lines of that request."},
	{"NP27", further, "probes cost nothing", "Probes that open connections finish off a database that is only busy."},
	{"NP28", further, "streaming", "Bytes that have left cannot be taken back when the COMMIT fails."},
	{"NP29", further, "retry by the caller's word", "Only the caller knows whether running a function twice is right."},
	{"NP30", further, "migrations are safe", "Two replicas that migrate at once, or one behind the wrong pooler, break the schema for all."},
	{"NP31", further, "few round trips", "Every round trip is time in which the slot serves nobody else."},
}
