package generator_test

import (
	"fmt"
	"go/format"
	"path"
	"regexp"
	"slices"
	"strings"
)

// mutations are all of them: first those of what is rendered, then those of what owners
// write beside it.
var mutations = slices.Concat(poolMutations, sessionMutations, engineMutations, serviceMutations, httpMutations,
	ownerEnds, ownerCommits, ownerStatements, ownerCarries, ownerHelpers, ownerAnswers, ownerLogs, ownerPlaces, ownerRelatives,
	ownerRepeats, ownerReturns)

// unnoticed are the names of those that no check notices, since the source does not say
// whether they are wrong. One that is noticed must not be here.
var unnoticed = []string{
	"a failed commit is logged, and answered as done", // right for what may fail, as the count of visits
	"what may have been done is done again",           // right for what can be done twice
}

// Files that many mutations touch.
const (
	session    = "internal/httpapi/session.go"
	responses  = "internal/httpapi/response.go"
	middleware = "internal/httpapi/middleware.go"
	problems   = "internal/httpapi/problem.go"
	health     = "internal/httpapi/health.go"
	handlers   = "internal/httpapi/notes.go"
	routes     = "internal/httpapi/routes.go"
	server     = "internal/httpapi/server.go"
	queries    = "internal/notes/notes.go"
	engine     = "internal/nopool/nopool.go"
	sessions   = "internal/nopool/session.go"
	endFile    = "internal/nopool/ending.go"
	slotsFile  = "internal/nopool/slots.go"
	openFile   = "internal/nopool/opening.go"
	flightFile = "internal/nopool/flight.go"
	connection = "internal/nopool/connection.go"
	valuesFile = "internal/nopool/values.go"
	events     = "internal/nopool/db.go"
	errorsFile = "internal/nopool/errors.go"
	connecting = "internal/connect/url.go"
	dialFile   = "internal/connect/dial.go"
	connector  = "internal/connect/connector.go"
	breaker    = "internal/connect/breaker.go"
	refusals   = "internal/connect/refusal.go"
	migrations = "internal/migrate/migrate.go"
	settings   = "internal/config/config.go"
	serve      = "cmd/demo/serve.go"
	command    = "cmd/demo/main.go"
	reports    = "internal/reports/reports.go"
)

// route is the edit that adds a line to the routes.
func route(line string) edit {
	return edit{routes, "\n	return s.problems(mux)\n", "	" + line + "\n\n	return s.problems(mux)\n"}
}

// imports is the edit that adds packages to what a file imports.
func imports(file string, paths ...string) edit {
	return edit{file, "\nimport (\n", "\nimport (\n	\"" + strings.Join(paths, "\"\n	\"") + "\"\n"}
}

// code is the edit that makes a file with its package clause and imports.
func code(file, text string) edit {
	folder := path.Base(path.Dir(file))
	if strings.HasPrefix(file, "cmd/") {
		folder = "main"
	}
	var out strings.Builder
	fmt.Fprintf(&out, "package %s\n\nimport (\n", folder)
	for _, group := range importable {
		for name := range strings.FieldsSeq(group) {
			if uses := regexp.MustCompile(`(?m)(^|[^\w."])` + path.Base(strings.TrimSuffix(name, "/v5")) + `\.[A-Z]`); uses.MatchString(text) {
				fmt.Fprintf(&out, "	%q\n", name)
			}
		}
		out.WriteString("\n")
	}
	formatted, err := format.Source([]byte(out.String() + ")\n" + text))
	if err != nil {
		panic(file + ": " + err.Error())
	}
	return edit{file, "", string(formatted)}
}

// importable are the packages that code imports where their names occur, as gofmt
// groups them.
var importable = []string{
	"bufio bytes cmp context crypto/tls encoding/csv encoding/json errors expvar fmt io iter log/slog maps mime/multipart net net/http os os/exec " +
		"runtime strconv strings sync sync/atomic syscall time",
	"github.com/jackc/pgx/v5 github.com/jackc/pgx/v5/pgconn github.com/lib/pq github.com/uptrace/bun/driver/pgdriver",
	"example.com/demo/internal/cache example.com/demo/internal/nopool " +
		"example.com/demo/internal/notes example.com/demo/internal/parallel",
}
