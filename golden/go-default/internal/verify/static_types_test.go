package verify

import (
	"go/types"
	"regexp"
)

// Who may do what others may not, by the package's path in the module. Each
// entry says why it is there; nothing else is exempt.
var (
	// The engine itself dials, and a session holds its connection.
	engine = regexp.MustCompile(`^internal/nopool$`)
	// goose asks for a *sql.DB; NP02 proves that it stays one connection.
	mayUseSQL = regexp.MustCompile(`^internal/migrate$`)
	// internal/connect logs in for the engine, in the place of pgx.
	// Starting a private Postgres and making databases in it for tests and
	// `dev` happens before there is a database to open a session on. Nothing
	// of it runs in a service that serves.
	mayDial = regexp.MustCompile(`^internal/(nopool|connect|localpg|pgtest)$`)
	// One engine for each command, opened by its main package; `verify` opens
	// one of its own to look through.
	mayOpen = regexp.MustCompile(`^(cmd(/.*)?|internal/verify)$`)
)

func (c *checker) within(allowed *regexp.Regexp) bool { return allowed.MatchString(c.rel) }

var (
	// Packages that are a pool, whatever is taken from them.
	poolPackage = regexp.MustCompile(`^github\.com/(jackc/pgx/v\d+/pgxpool|jackc/puddle(/v\d+)?|go-pg/pg(/v\d+)?)$|^gorm\.io/gorm$`)
	pgxPackage  = regexp.MustCompile(`^github\.com/jackc/pgx/v\d+$`)
	pgconn      = regexp.MustCompile(`^github\.com/jackc/(pgx/v\d+/)?pgconn$`)
	pgxStdlib   = regexp.MustCompile(`^github\.com/jackc/pgx/v\d+/stdlib$`)
	pgproto     = regexp.MustCompile(`^github\.com/jackc/(pgx/v\d+/)?pgproto3(/v\d+)?$`)

	sqlPool     = regexp.MustCompile(`^(DB|Conn|Tx|Stmt|Open|OpenDB)$`)
	dialing     = regexp.MustCompile(`^(Connect|ConnectConfig|ConnectWithOptions|Construct|NewFrontend)$`)
	connections = regexp.MustCompile(`^(Conn|PgConn|HijackedConn|Tx|Rows|BatchResults|LargeObjects?)$`)
)

// kind says what a named type is to these rules: "pool", "connection",
// "session", "engine", or nothing.
func (c *checker) kind(n *types.TypeName) string {
	if n.Pkg() == nil {
		return ""
	}
	path, name := n.Pkg().Path(), n.Name()
	switch {
	case poolPackage.MatchString(path):
		return "pool"
	case path == "database/sql" && name == "DB":
		return "pool"
	case path == "database/sql" && (name == "Conn" || name == "Tx" || name == "Stmt" || name == "Rows"):
		return "connection"
	case (pgxPackage.MatchString(path) || pgconn.MatchString(path)) && connections.MatchString(name):
		return "connection"
	case path == c.module+"/internal/nopool" && name == "Session":
		return "session"
	case path == c.module+"/internal/nopool" && name == "DB":
		return "engine"
	}
	return ""
}

// search says how far holds looks into a type.
type search struct {
	pools      bool // look for pools alone
	interfaces bool // an interface that runs SQL counts: a session hides behind it
	factories  bool // a function that returns a session counts, as one kept in a sync.Once
	noSession  bool // inside the results of a function that may well return one
}

// holds returns the name of a type within t that is, or can hold, a
// connection, or "". It looks through aliases, pointers, containers, type
// arguments, embedded and unexported fields, of dependencies too.
func (c *checker) holds(t types.Type, s search) string {
	return c.look(t, s, map[types.Type]bool{})
}

func (c *checker) look(t types.Type, s search, seen map[types.Type]bool) string {
	t = types.Unalias(t)
	if t == nil || seen[t] {
		return ""
	}
	seen[t] = true
	switch t := t.(type) {
	case *types.Named:
		return c.lookNamed(t, s, seen)
	case *types.Pointer:
		return c.look(t.Elem(), s, seen)
	case *types.Slice:
		return c.look(t.Elem(), s, seen)
	case *types.Array:
		return c.look(t.Elem(), s, seen)
	case *types.Chan:
		return c.look(t.Elem(), s, seen)
	case *types.Map:
		return first(c.look(t.Key(), s, seen), c.look(t.Elem(), s, seen))
	case *types.Tuple:
		for v := range t.Variables() {
			if found := c.look(v.Type(), s, seen); found != "" {
				return found
			}
		}
	case *types.Struct:
		for f := range t.Fields() {
			if found := c.look(f.Type(), s, seen); found != "" {
				return found
			}
		}
	case *types.Signature:
		// What a function takes it need not keep; what it returns it may hand
		// out again and again.
		return c.look(t.Results(), search{pools: s.pools, noSession: !s.factories}, seen)
	case *types.Interface:
		if s.interfaces && runsSQL(t) {
			return "an interface that runs SQL"
		}
	}
	return ""
}

func (c *checker) lookNamed(t *types.Named, s search, seen map[types.Type]bool) string {
	name := types.TypeString(t, func(p *types.Package) string { return p.Name() })
	switch kind := c.kind(t.Obj()); {
	case kind == "pool", kind == "connection" && !s.pools:
		return name
	case kind == "session" && !s.pools && !s.noSession:
		return name
	case kind != "":
		return "" // the engine is what everybody may hold
	}
	for arg := range t.TypeArgs().Types() {
		if found := c.look(arg, s, seen); found != "" {
			return found
		}
	}
	if found := c.look(t.Underlying(), s, seen); found != "" {
		return first(found, name)
	}
	return ""
}

// runsSQL reports whether an interface has a method that returns what only a
// database connection can: rows or a command tag. sqlc's DBTX is one.
func runsSQL(t *types.Interface) bool {
	for m := range t.Methods() {
		for v := range m.Signature().Results().Variables() {
			n, ok := types.Unalias(v.Type()).(*types.Named)
			if p, isPointer := types.Unalias(v.Type()).(*types.Pointer); isPointer {
				n, ok = types.Unalias(p.Elem()).(*types.Named)
			}
			if !ok || n.Obj().Pkg() == nil {
				continue
			}
			switch path, name := n.Obj().Pkg().Path(), n.Obj().Name(); {
			case pgxPackage.MatchString(path) && (name == "Rows" || name == "Row" || name == "BatchResults"),
				pgconn.MatchString(path) && name == "CommandTag",
				path == "database/sql" && (name == "Rows" || name == "Row"):
				return true
			}
		}
	}
	return false
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
