package verify

import (
	"go/ast"
	"go/token"
	"go/types"
	"iter"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/tools/go/types/typeutil"
)

var re = regexp.MustCompile

// Who may do what others may not, by the package's path in the module.
var (
	nobody    = re(`^$`)
	engine    = re(`^internal/nopool$`)                          // a session holds its connection
	mayUseSQL = re(`^internal/migrate$`)                         // goose asks for a *sql.DB; NP02 proves that it stays one connection
	mayDial   = re(`^internal/(nopool|connect|localpg|pgtest)$`) // before there is a database to open a session on
	mayOpen   = re(`^(cmd(/.*)?|internal/verify|internal/nopool)$`)
	probes    = re(`^internal/verify$`) // sees whether a pooler gives it another backend for its next transaction
)

func (c *checker) within(allowed *regexp.Regexp) bool { return allowed.MatchString(c.rel) }

// forbidden are names of other packages, such as net.Dial, that only some may use.
var forbidden = []struct {
	rule    string
	what    *regexp.Regexp
	allowed *regexp.Regexp
	why     string
}{
	{"NP14", re(`^github\.com/(jackc/pgx/v\d+/pgxpool|jackc/puddle(/v\d+)?)\.`), nobody, "keeps a pool"},
	{"NP14", re(`^github\.com/jackc/pgx/v\d+/stdlib\.|^database/sql\.(DB|Conn|Tx|Stmt|Open|OpenDB)$`), mayUseSQL, "hands connections on"},
	{"NP03", re(`^github\.com/jackc/.*(pgx/v\d+|pgconn|pgproto3)\.(Connect|ConnectConfig|ConnectWithOptions|Construct|NewFrontend)$`), mayDial, "opens a connection beside the engine"},
	{"NP03", re(`^(net|crypto/tls)\.Dial(TCP|Timeout|Unix|WithDialer)?$|^\(\*(net|crypto/tls)\.Dialer\)\.Dial`), mayDial, "may open a connection beside the engine"},
	{"NP03", re(`/internal/nopool\.Open$`), mayOpen, "makes a second engine"},
	{"NP26", re(`^log\.(Fatal|New|Panic|Print)`), re(`^cmd(/.*)?$`), "logs without the request's correlation id"},
	{"NP24", re(`^expvar\.(Handler|Publish)$`), nobody, "shows the inside of the process to whoever asks"},
}

// forbid looks a name up among what is forbidden.
func (c *checker) forbid(at token.Pos, name string) {
	for _, f := range forbidden {
		if f.what.MatchString(name) && !c.within(f.allowed) {
			c.add(f.rule, at, "%s %s", name, f.why)
		}
	}
}

// What a type must not be, or hold, by path.Name.
var (
	isPool       = re(`/pgxpool\.|/puddle|^database/sql\.DB$`)
	isBare       = re(`/pgx/v\d+\.(Conn|Tx|Rows|BatchResults|LargeObjects?)$|pgconn\.(PgConn|HijackedConn)$|^database/sql\.(DB|Conn|Tx|Stmt|Rows)$|/pgxpool\.`)
	isConnection = re(isBare.String() + `|/internal/nopool\.Session$`)
	runsSQL      = re(`/pgx/v\d+\.(Rows|Row|BatchResults)$|pgconn\.CommandTag$|^database/sql\.Rows?$`)
	isEngine     = re(`/internal/nopool\.(DB|Session)$`) // what they hold is theirs
)

// holds reports whether t is, or can hold or hand out, a type that what matches: it looks through aliases, pointers,
// containers, type arguments and fields, and takes an interface that runs SQL for a connection, since a session hides
// behind it. A field of the owner's own struct that is found where it is declared is not found again with each variable.
func (s *source) holds(t types.Type, what *regexp.Regexp) bool {
	return s.look(t, what, map[looked]bool{})
}

// looked is a type that was looked at, which a type that holds itself comes to again.
type looked struct {
	at   types.Type
	what *regexp.Regexp
}

func (s *source) look(t types.Type, what *regexp.Regexp, seen map[looked]bool) bool {
	if t = types.Unalias(t); t == nil || seen[looked{t, what}] {
		return false
	}
	seen[looked{t, what}] = true
	deeper := func(t types.Type) bool { return s.look(t, what, seen) }
	switch t := t.(type) {
	case *types.Named:
		name := types.TypeString(t.Origin(), nil)
		if what.MatchString(name) || slices.ContainsFunc(slices.Collect(t.TypeArgs().Types()), deeper) {
			return true
		}
		fields, ok := t.Underlying().(*types.Struct)
		if ours := strings.HasPrefix(name, s.module+"/") && !strings.HasPrefix(name, s.module+"/internal/nopool."); !ok || ofRequest(t) || !ours {
			return !isEngine.MatchString(name) && deeper(t.Underlying())
		}
		return what == isConnection && !isEngine.MatchString(name) && slices.ContainsFunc(typesOf(fields.Fields()), func(t types.Type) bool {
			return types.IsInterface(t) && deeper(t)
		})
	case *types.Map:
		return deeper(t.Key()) || deeper(t.Elem())
	case interface{ Elem() types.Type }:
		return deeper(t.Elem())
	case *types.Struct:
		return slices.ContainsFunc(typesOf(t.Fields()), deeper)
	case *types.Signature: // what it takes it need not keep, and a session that it returns may be a new one each time
		if what == isConnection {
			what = isBare
		}
		return deeper(t.Results())
	case *types.Tuple:
		return slices.ContainsFunc(results(t), deeper)
	case *types.Interface:
		return what == isConnection && slices.ContainsFunc(slices.Collect(t.Methods()), func(m *types.Func) bool {
			return slices.ContainsFunc(results(m.Signature().Results()), func(t types.Type) bool {
				return runsSQL.MatchString(strings.TrimPrefix(types.TypeString(t, nil), "*"))
			})
		})
	}
	return false
}

// typesOf are the types of variables, and results those of what a call returns.
func typesOf(vars iter.Seq[*types.Var]) (all []types.Type) {
	for v := range vars {
		all = append(all, v.Type())
	}
	return all
}

func results(t types.Type) []types.Type {
	if several, ok := t.(*types.Tuple); ok {
		return typesOf(several.Variables())
	}
	return []types.Type{t}
}

// isFunction reports whether t is a function, or several results with one among them.
func isFunction(t types.Type) bool {
	return slices.ContainsFunc(results(t), func(t types.Type) bool { return t != nil && strings.HasPrefix(t.Underlying().String(), "func(") })
}

func isHandler(t types.Type) bool {
	s, ok := t.Underlying().(*types.Signature)
	return ok && s.Params().Len() > 0 && isResponse(s.Params().At(0).Type())
}

func isResponse(t types.Type) bool { return is(t, "net/http.ResponseWriter") }
func isRequest(t types.Type) bool  { return is(t, "*net/http.Request") }
func isContext(t types.Type) bool  { return is(t, "context.Context") }
func hasContext(t types.Type) bool { return isRequest(t) || isContext(t) }

func isOurs(t types.Type) bool { return isSession.MatchString(typeName(t)) }

func is(t types.Type, name string) bool { return typeName(t) == name }

// typeName is a type's path.Name, with a star before it for a pointer.
func typeName(t types.Type) string {
	if t == nil {
		return ""
	}
	return types.TypeString(types.Unalias(t), nil)
}

// ofRequest reports whether t is a struct, or a pointer to one, with the response in it: it lives no longer than the request.
func ofRequest(t types.Type) bool {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	if t == nil {
		return false
	}
	s, ok := t.Underlying().(*types.Struct)
	return ok && slices.ContainsFunc(typesOf(s.Fields()), isResponse)
}

// checkNode looks at one node for all rules, with those around it, outermost first.
func (c *checker) checkNode(n ast.Node, outer []ast.Node) {
	c.checkWayOut(n, outer)
	switch n := n.(type) {
	case *ast.Ident:
		c.checkName(n, outer)
	case *ast.ChanType:
		if c.holds(c.TypeOf(n.Value), isConnection) {
			c.add("NP15", n.Pos(), "a channel hands connections on")
		}
	case *ast.StructType:
		c.checkFields(n, outer)
	case *ast.FuncDecl, *ast.FuncLit:
		c.checkBody(n)
	case *ast.CallExpr:
		c.checkCall(n, outer)
	case *ast.CompositeLit:
		c.checkTexts(n.Elts, typeName(c.TypeOf(n)), false)
		if isAnswer.MatchString(typeName(c.TypeOf(n))) { // an error of the HTTP layer
			c.checkWords(n)
		}
	case *ast.AssignStmt:
		moves(n, func(to, value ast.Expr) {
			field, part := to.(*ast.SelectorExpr)
			header, ok := to.(*ast.IndexExpr)
			if part {
				c.checkTexts([]ast.Expr{value}, strings.TrimPrefix(typeName(c.TypeOf(field.X)), "*"), false)
			}
			if part && isAnswer.MatchString(strings.TrimPrefix(typeName(c.TypeOf(field.X)), "*")) || ok && is(c.TypeOf(header.X), "net/http.Header") && c.isSent(header.X) {
				c.checkWords(value)
			}
		})
	}
}

// checkName finds what only others may mention, a variable that is a pool, and one of the package that can keep a
// connection. A dialer may be mentioned for UDP and for clients of HTTP, which no database speaks.
func (c *checker) checkName(n *ast.Ident, outer []ast.Node) {
	if v, ok := c.Defs[n].(*types.Var); ok && n.Name != "_" {
		c.checkPool(n, v.Type())
		function, ok := v.Type().Underlying().(*types.Signature) // such as a sync.OnceValue, which returns the same again
		if v.Kind() == types.PackageVar && (c.holds(v.Type(), isConnection) || ok && c.holds(function.Results(), isConnection)) {
			c.add("NP15", n.Pos(), "package variable %s can keep a connection", n.Name)
		}
	}
	obj := c.Uses[n]
	f, ok := obj.(*types.Func)
	switch {
	case obj == nil || obj.Pkg() == nil || obj.Pkg() == c.pkg.Types:
	case ok:
		user := outer[max(0, len(outer)-2)]
		call, called := user.(*ast.CallExpr)
		udp := called && slices.ContainsFunc(call.Args, func(arg ast.Expr) bool { return strings.HasPrefix(c.text(arg), "udp") })
		transport := !called && has(user, func(n ast.Node) bool {
			v := c.variable(n)
			return v != nil && v.IsField() && v.Pkg().Path() == "net/http"
		})
		if !udp && !transport {
			c.forbid(n.Pos(), f.FullName())
		}
	case obj.Parent() == obj.Pkg().Scope():
		c.forbid(n.Pos(), obj.Pkg().Path()+"."+obj.Name())
	}
}

func (c *checker) checkPool(n ast.Node, t types.Type) {
	if !c.within(mayUseSQL) && c.holds(t, isPool) {
		c.add("NP14", n.Pos(), "is, or holds, a pool")
	}
}

// checkFields finds fields that can keep a connection. The engine's own structs are its home, but for DB.
func (c *checker) checkFields(n *ast.StructType, outer []ast.Node) {
	spec, _ := outer[len(outer)-1].(*ast.TypeSpec)
	if c.within(engine) && (spec == nil || spec.Name.Name != "DB") || ofRequest(c.TypeOf(n)) {
		return
	}
	for _, f := range n.Fields.List {
		t := c.TypeOf(f.Type) // an interface, as sqlc's Queries have: whoever keeps one of those is found
		if !types.IsInterface(t) && c.holds(t, isConnection) {
			c.add("NP15", f.Pos(), "a field can keep a connection beyond its session")
		}
	}
}

// around is the innermost function around a node, and signature its type.
func (c *checker) around(outer []ast.Node) ast.Node {
	for _, n := range slices.Backward(outer) {
		if c.signature(n) != nil {
			return n
		}
	}
	return nil
}

// signature is that of a function with a body, nil where n is none.
func (c *checker) signature(n ast.Node) *types.Signature {
	switch f := n.(type) {
	case *ast.FuncLit:
		return c.TypeOf(f).(*types.Signature)
	case *ast.FuncDecl:
		return c.Defs[f.Name].Type().(*types.Signature)
	}
	return nil
}

// function is what a call calls, nil where that is a value, or n no call; called is its full name.
func (c *checker) function(n ast.Node) *types.Func {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return nil
	}
	f, _ := typeutil.Callee(c.Info, call).(*types.Func)
	return f
}

func (c *checker) called(n ast.Node) string {
	if f := c.function(n); f != nil {
		return f.FullName()
	}
	return ""
}

// variable is what an identifier names, nil where n is none, or that is no variable.
func (c *checker) variable(n ast.Node) *types.Var {
	id, _ := n.(*ast.Ident)
	v, _ := c.ObjectOf(id).(*types.Var)
	return v
}
