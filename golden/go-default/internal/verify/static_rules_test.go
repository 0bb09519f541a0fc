package verify

import (
	"go/ast"
	"go/token"
	"go/types"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/go/types/typeutil"
)

// Who may do what others may not, by the package's path in the module.
var (
	engine    = regexp.MustCompile(`^internal/nopool$`)                          // a session holds its connection
	mayUseSQL = regexp.MustCompile(`^internal/migrate$`)                         // goose asks for a *sql.DB; NP02 proves that it stays one connection
	mayDial   = regexp.MustCompile(`^internal/(nopool|connect|localpg|pgtest)$`) // before there is a database to open a session on
	mayOpen   = regexp.MustCompile(`^(cmd(/.*)?|internal/verify|internal/nopool)$`)
)

func (c *checker) within(allowed *regexp.Regexp) bool { return allowed.MatchString(c.rel) }

var (
	poolPackage = regexp.MustCompile(`^github\.com/(jackc/pgx/v\d+/pgxpool|jackc/puddle(/v\d+)?|go-pg/pg(/v\d+)?)$|^gorm\.io/gorm$`)
	pgxStdlib   = regexp.MustCompile(`^github\.com/jackc/pgx/v\d+/stdlib$`)
	pgconn      = regexp.MustCompile(`^github\.com/jackc/(pgx/v\d+/)?pgconn$`)
)

// forbidden are names of other packages, as path.Name, that only some may mention.
var forbidden = []struct {
	rule    string
	name    *regexp.Regexp
	allowed *regexp.Regexp
	why     string
}{
	{"NP14", regexp.MustCompile(`^github\.com/(jackc/pgx/v\d+/pgxpool|jackc/puddle(/v\d+)?|go-pg/pg(/v\d+)?)\.|^gorm\.io/gorm\.`), regexp.MustCompile(`^$`), "keeps a pool"},
	{"NP14", regexp.MustCompile(`^database/sql\.(DB|Conn|Tx|Stmt|Open|OpenDB)$`), mayUseSQL, "hands connections on"},
	{"NP03", regexp.MustCompile(`^github\.com/jackc/.*(pgx/v\d+|pgconn|pgproto3)\.(Connect|ConnectConfig|ConnectWithOptions|Construct|NewFrontend)$`), mayDial, "opens a connection beside the engine"},
	{"NP03", regexp.MustCompile(`/internal/nopool\.Open$`), mayOpen, "makes a second engine"},
}

// What a type must not be, or hold, by path.Name.
var (
	isPool       = regexp.MustCompile(`/pgxpool\.|/puddle|go-pg/pg|gorm\.io/gorm\.|^database/sql\.DB$`)
	isBare       = regexp.MustCompile(`/pgx/v\d+\.(Conn|Tx|Rows|BatchResults|LargeObjects?)$|pgconn\.(PgConn|HijackedConn)$|^database/sql\.(DB|Conn|Tx|Stmt|Rows)$|/pgxpool\.`)
	isConnection = regexp.MustCompile(isBare.String() + `|/internal/nopool\.Session$`)
	runsSQL      = regexp.MustCompile(`/pgx/v\d+\.(Rows|Row|BatchResults)$|pgconn\.CommandTag$|^database/sql\.Rows?$`)
	isEngine     = regexp.MustCompile(`/internal/nopool\.(DB|Session)$`) // what they hold is theirs
)

// holds reports whether t is, or can hold or hand out, a type that what matches: it looks through aliases, pointers,
// containers, type arguments and fields, and takes an interface that runs SQL for a connection, since a session hides
// behind it.
func holds(t types.Type, what *regexp.Regexp) bool { return look(t, what, map[looked]bool{}) }

// looked is a type that was looked at before, which a type that holds itself comes to again.
type looked struct {
	at   types.Type
	what *regexp.Regexp
}

func look(t types.Type, what *regexp.Regexp, seen map[looked]bool) bool {
	if t = types.Unalias(t); t == nil || seen[looked{t, what}] {
		return false
	}
	seen[looked{t, what}] = true
	deeper := func(t types.Type) bool { return look(t, what, seen) }
	switch t := t.(type) {
	case *types.Named:
		name := types.TypeString(t.Origin(), nil)
		return what.MatchString(name) || !isEngine.MatchString(name) && (slices.ContainsFunc(slices.Collect(t.TypeArgs().Types()), deeper) || deeper(t.Underlying()))
	case *types.Map:
		return deeper(t.Key()) || deeper(t.Elem())
	case interface{ Elem() types.Type }:
		return deeper(t.Elem())
	case *types.Struct:
		return slices.ContainsFunc(slices.Collect(t.Fields()), func(f *types.Var) bool { return deeper(f.Type()) })
	case *types.Signature: // what it takes it need not keep, and a session that it returns may be a new one each time
		if what == isConnection {
			what = isBare
		}
		return deeper(t.Results())
	case *types.Tuple:
		return slices.ContainsFunc(slices.Collect(t.Variables()), func(v *types.Var) bool { return deeper(v.Type()) })
	case *types.Interface:
		return what == isConnection && slices.ContainsFunc(slices.Collect(t.Methods()), func(m *types.Func) bool {
			return slices.ContainsFunc(slices.Collect(m.Signature().Results().Variables()), func(v *types.Var) bool {
				return runsSQL.MatchString(strings.TrimPrefix(types.TypeString(v.Type(), nil), "*"))
			})
		})
	}
	return false
}

// checkImports finds packages that are a pool (NP14), whatever name they are imported under, also a blank one. Where types
// are not known, database/sql counts as one.
func (c *checker) checkImports(file *ast.File, fset *token.FileSet, typed bool) {
	for _, spec := range file.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		if poolPackage.MatchString(path) || !c.within(mayUseSQL) && (pgxStdlib.MatchString(path) || !typed && path == "database/sql") {
			c.addAt("NP14", fset.Position(spec.Pos()), "imports %s, which keeps a pool", path)
		}
	}
}

// checkNode looks at one node for all rules, with those around it, outermost first.
func (c *checker) checkNode(n ast.Node, outer []ast.Node) {
	info, home := c.pkg.TypesInfo, c.within(engine)
	switch n := n.(type) {
	case *ast.Ident:
		c.checkName(n)
	case *ast.ChanType:
		if holds(info.TypeOf(n.Value), isConnection) {
			c.add("NP15", n.Pos(), "a channel hands connections on")
		}
	case *ast.StructType:
		c.checkFields(n, outer)
	case *ast.GoStmt:
		if !home && c.captures(n.Call) {
			c.add("NP03", n.Pos(), "a goroutine uses a session of the function around it")
		}
	case *ast.AssignStmt:
		for i, to := range n.Lhs {
			if len(n.Lhs) == len(n.Rhs) && holds(info.TypeOf(n.Rhs[i]), isConnection) && c.outlives(to) {
				c.add("NP15", to.Pos(), "stores a connection where it outlives its session")
			}
		}
	case *ast.CallExpr:
		c.checkCall(n)
	case *ast.FuncLit:
		if !home {
			c.checkLiteral(n, outer)
		}
	case *ast.CompositeLit: // an error of the HTTP layer
		t, ok := types.Unalias(info.TypeOf(n)).(*types.Named)
		if ok && regexp.MustCompile(`/internal/httpapi\.(Field)?Error$`).MatchString(types.TypeString(t, nil)) {
			c.checkWords(n, false)
		}
	}
}

// checkName finds what only others may mention, a variable that is a pool, and one of the package that can keep a
// connection.
func (c *checker) checkName(n *ast.Ident) {
	if v, ok := c.pkg.TypesInfo.Defs[n].(*types.Var); ok && n.Name != "_" {
		c.checkPool(n, v.Type())
		function, ok := v.Type().Underlying().(*types.Signature) // such as a sync.OnceValue, which returns the same again
		if v.Parent() == c.pkg.Types.Scope() && (holds(v.Type(), isConnection) || ok && holds(function.Results(), isConnection)) {
			c.add("NP15", n.Pos(), "package variable %s can keep a connection", n.Name)
		}
	}
	obj := c.pkg.TypesInfo.Uses[n]
	if obj == nil || obj.Pkg() == nil || obj.Parent() != obj.Pkg().Scope() {
		return
	}
	for _, f := range forbidden {
		if name := obj.Pkg().Path() + "." + obj.Name(); f.name.MatchString(name) && !c.within(f.allowed) {
			c.add(f.rule, n.Pos(), "%s %s", name, f.why)
		}
	}
}

func (c *checker) checkPool(n ast.Node, t types.Type) {
	if !c.within(mayUseSQL) && holds(t, isPool) {
		c.add("NP14", n.Pos(), "is, or holds, a pool")
	}
}

// checkFields finds fields that can keep a connection. The engine's own structs are its home, and one with the response
// in it lives no longer than the request.
func (c *checker) checkFields(n *ast.StructType, outer []ast.Node) {
	info := c.pkg.TypesInfo
	spec, _ := outer[len(outer)-1].(*ast.TypeSpec)
	if c.within(engine) && (spec == nil || spec.Name.Name != "DB") ||
		slices.ContainsFunc(n.Fields.List, func(f *ast.Field) bool { return isResponseWriter(info.TypeOf(f.Type)) }) {
		return
	}
	for _, f := range n.Fields.List {
		_, viaInterface := info.TypeOf(f.Type).Underlying().(*types.Interface) // sqlc's Queries: whoever keeps one of those is found
		if !viaInterface && holds(info.TypeOf(f.Type), isConnection) {
			c.add("NP15", f.Pos(), "a field can keep a connection beyond its session")
		}
	}
}

// checkCall finds a call that returns a pool, a session that is given to a container of the standard library, a function
// around one that is given to what runs it later, or beside its owner, and the server's words given to a response: what
// an error of any kind says must not be the text of http.Error.
func (c *checker) checkCall(n *ast.CallExpr) {
	info := c.pkg.TypesInfo
	c.checkPool(n, info.TypeOf(n))
	path, name := c.callee(n)
	container := strings.HasPrefix(path, "sync") || strings.HasPrefix(path, "container/")
	for _, arg := range n.Args {
		lit, isLiteral := arg.(*ast.FuncLit)
		switch captured := isLiteral && !c.within(engine) && c.captures(lit); {
		case captured && (name == "Go" || name == "AfterFunc"):
			c.add("NP03", arg.Pos(), "%s runs it beside the session's owner", name)
		case captured && (isHandler(info.TypeOf(lit)) || container), container && holds(info.TypeOf(arg), isConnection):
			c.add("NP15", arg.Pos(), "%s.%s keeps a session", path, name)
		case isResponseWriter(info.TypeOf(arg)):
			c.checkWords(n, path == "net/http" && name == "Error")
		}
	}
}

// checkLiteral finds a function that uses a session and is returned, stored or sent: neither called where it is, nor kept
// in a local variable, nor the clean-up of a session that is returned with it.
func (c *checker) checkLiteral(n *ast.FuncLit, outer []ast.Node) {
	switch parent := outer[len(outer)-1].(type) {
	case *ast.CallExpr, *ast.ParenExpr, *ast.ValueSpec: // arguments are looked at as such
		return
	case *ast.AssignStmt:
		local := func(to ast.Expr) bool { _, ok := to.(*ast.Ident); return ok && !c.outlives(to) }
		if !slices.ContainsFunc(parent.Lhs, func(to ast.Expr) bool { return !local(to) }) {
			return
		}
	case *ast.ReturnStmt:
		if c.returnsConnection(outer) {
			return
		}
	}
	if c.captures(n) {
		c.add("NP15", n.Pos(), "a function that uses a session outlives it")
	}
}

// outlives reports whether what is assigned to an expression is kept by more than the function.
func (c *checker) outlives(to ast.Expr) bool {
	id, direct := ast.Unparen(to).(*ast.Ident)
	if direct {
		v, ok := c.pkg.TypesInfo.ObjectOf(id).(*types.Var)
		return ok && v.Parent() == c.pkg.Types.Scope()
	}
	i, ok := c.pkg.TypesInfo.TypeOf(to).Underlying().(*types.Interface)
	return ok && i.NumMethods() == 0 && !c.within(engine)
}

// captures reports whether a node mentions a local variable from around it that holds a session.
func (c *checker) captures(below ast.Node) (found bool) {
	ast.Inspect(below, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		if v, isVar := c.pkg.TypesInfo.Uses[id].(*types.Var); ok && isVar && !v.IsField() && v.Pkg() != nil && v.Parent() != v.Pkg().Scope() &&
			(v.Pos() < below.Pos() || v.Pos() >= below.End()) && holds(v.Type(), isConnection) {
			found = true
		}
		return !found
	})
	return found
}

// returnsConnection reports whether the function around returns the connection too.
func (c *checker) returnsConnection(outer []ast.Node) bool {
	for _, node := range slices.Backward(outer) {
		if function := c.signature(node); function != nil {
			return holds(function.Results(), isConnection)
		}
	}
	return false
}

// signature is that of a function with a body, nil where n is none.
func (c *checker) signature(n ast.Node) *types.Signature {
	switch f := n.(type) {
	case *ast.FuncLit:
		return c.pkg.TypesInfo.TypeOf(f).(*types.Signature)
	case *ast.FuncDecl:
		return c.pkg.TypesInfo.Defs[f.Name].Type().(*types.Signature)
	}
	return nil
}

// callee names the function of another package that a call calls.
func (c *checker) callee(n *ast.CallExpr) (path, name string) {
	if f := c.function(n); f != nil && f.Pkg() != nil {
		return f.Pkg().Path(), f.Name()
	}
	return "", ""
}

// function is what a call calls, nil where it is a value.
func (c *checker) function(n *ast.CallExpr) *types.Func {
	f, _ := typeutil.Callee(c.pkg.TypesInfo, n).(*types.Func)
	return f
}

func isHandler(t types.Type) bool {
	s, ok := t.Underlying().(*types.Signature)
	return ok && s.Params().Len() > 0 && isResponseWriter(s.Params().At(0).Type())
}

func isResponseWriter(t types.Type) bool {
	return types.TypeString(types.Unalias(t), nil) == "net/http.ResponseWriter"
}

// serverWords are the fields of an error of Postgres that quote data or SQL.
var serverWords = []string{"Message", "Detail", "Hint", "Where", "InternalQuery"}

// checkWords looks below a node for the server's words (NP24), or for those of every error.
func (c *checker) checkWords(below ast.Node, every bool) {
	ast.Inspect(below, func(n ast.Node) bool {
		if n, ok := n.(*ast.SelectorExpr); ok {
			switch field := c.pkg.TypesInfo.Uses[n.Sel].(type) {
			case *types.Var:
				if field.IsField() && pgconn.MatchString(field.Pkg().Path()) && slices.Contains(serverWords, field.Name()) {
					c.add("NP24", n.Pos(), "the client is sent the server's %s, which can quote data", field.Name())
				}
			case *types.Func:
				if every && field.Name() == "Error" && c.pkg.TypesInfo.TypeOf(n.X).String() == "error" {
					c.add("NP24", n.Pos(), "the client is sent the text of an error")
				}
			}
		}
		return true
	})
}
