package verify

import (
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/tools/go/cfg"
)

// What calls are known by, as types.Func names them.
var (
	begins     = re(`/internal/nopool\.DB\)\.Session$`)
	repeatable = re(`/internal/nopool\.DB\)\.(Run|RunWithRetry)$`)
	isCounters = re(`/internal/nopool\.Snapshot$`)
	endsOrKeep = re(`/internal/nopool\.(Session\)\.(Commit|Finish|Rollback|Undo)|WithSession)$`)
	readsForm  = re(`^\(\*net/http\.Request\)\.(FormFile|FormValue|MultipartReader|ParseForm|ParseMultipartForm|PostFormValue)$`)
	isReader   = re(`(Reader|ReadCloser|Decoder|Scanner|Part)$`)
	noContext  = re(`^context\.(Background|TODO)$`)
	opensSQL   = re(`^(database/sql|github\.com/jackc/pgx/v\d+/stdlib)\.Open`)
	logs       = re(`^(\(\*log/slog\.Logger\)|log/slog)\.(Any|Debug|Error|Group|Info|Log|LogAttrs|Warn|With)(Context)?$`)
	prints     = re(`^fmt\.(Append|Fprint|Print|Sprint)|/template\.Template\)\.Execute`) // Errorf makes an error of an error
	makesWrite = re(`\.New(Writer|Encoder)`)
	programs   = re(`^os/exec\.|^(os|syscall)\.(Exec|ForkExec|StartProcess)$`)
	secrets    = re(`(?i)\b((get|lookup|must)?env|environ|ConnString)$|^\(\*net/url\.URL\)\.String$`)
	plain      = re(`(?i)(^|_)(env|host|level|name|port|region|version|zone)$`) // what settings without a secret end in
	keeps      = re(`^\(?\*?(sync|container/)`)
	sends      = re(`^\(\*?net/http\.(Response(Writer|Controller)|Flusher)\)\.(Write(Header)?|Flush)$`)
	sendsNone  = re(`^net/http\.(MaxBytesReader|NewResponseController|SetCookie)$`) // though given the response
	setsHeader = re(`^\(net/http\.Header\)\.(Add|Set)$`)
	isOpen     = re(`/pgx/v\d+\.(Rows?|BatchResults)$`)
	isSession  = re(`/internal/nopool\.Session$`)
	isAnswer   = re(`/internal/httpapi\.(Field)?Error$`)
	pgconn     = re(`^github\.com/jackc/(pgx/v\d+/)?pgconn$`)
)

// What texts say: SQL whose effect outlives its transaction, or may, since the rest is put together or an argument; and
// programs that connect by themselves.
var (
	outlives = re(`(?i)(^|;|\*/|--.*\n)\s*(set\s+(session|role|names|time\s+zone)\b|set\s+([a-z_.]+|%[a-z])\s*(=|\bto\b)|reset\s|discard\s|listen\s|prepare\s)|` +
		`^set\s+$|\bupdate\s+(pg_catalog\.)?pg_settings\b|\bset_config\s*\([^)]*,\s*(is_local\s*(=>|:=)\s*)?('?(f|false|n|no|off|0)'?|\$\d+)\s*\)|\bpg_(try_)?advisory_lock(_shared)?\s*\(`)
	temporary = re(`(?i)^\s*create\s+temp(orary)?\s+table\b`) // unless it ends with its transaction
	dropped   = re(`(?i)\bon\s+commit\s+drop\b`)
	// A transaction that is not the session's own; ROLLBACK TO ends none.
	transaction = re(`(?i)(^|\*/|--.*\n)\s*((begin|start\s+transaction)\b|end\s*(;|$))|` +
		`(^|;|\*/|--.*\n)\s*(commit|rollback|abort)(\s+(work|transaction))?(\s+and\s+(no\s+)?chain)?\s*(;|$)`)
	statements = re(`\.(Exec|Query|QueryRow|Queue|SendBatch)$`)
	connects   = re(`(^|[/ ])(psql|pgbench|pg_dump|pg_restore|createdb|dropdb|vacuumdb)( |$)`)
)

// checkCall looks at one call for all rules.
func (c *checker) checkCall(n *ast.CallExpr, outer []ast.Node) {
	c.checkPool(n, c.TypeOf(n))
	name := c.called(n)
	if name == "" && !c.opens(n) || c.within(engine) {
		return
	}
	c.checkTexts(n.Args, name, c.isQuery(n) || strings.HasSuffix(name, ".Batch).Queue"))
	c.checkEnd(n, outer)
	log := logs.MatchString(name)
	switch {
	case name == "log/slog.New" && !c.mentions(made(n.Args[0]), re(`^(WithCorrelation|DiscardHandler)$`)):
		c.add("NP26", n.Pos(), "a logger without httpapi.WithCorrelation around all of its handlers")
	case (noContext.MatchString(name) || c.does[name+startsAnew]) && c.given(outer, hasContext):
		c.add("NP26", n.Pos(), "a context that knows nothing of the request, where one is at hand")
	case repeatable.MatchString(name) && len(n.Args) == 3 && !c.mentions(n.Args[1], re(`^ReadOnly$`)) && c.answers(n.Args[2]) && !c.given(outer, isOurs):
		c.add("NP05", n.Pos(), "answers in the middle of its transaction: do it when this has returned, its COMMIT acknowledged")
	case c.runs(n) && c.isRepeated(n, outer), c.does[name+repeatsWork] && slices.ContainsFunc(c.behind(n), c.runs):
		c.add("NP29", n.Pos(), "repeats what ran, whatever its error is; RunWithRetry knows what may be repeated")
	case opensSQL.MatchString(name) && !(c.limits(outer, "Open") && c.limits(outer, "Idle")): // a limit that is not reached shows nowhere else
		c.add("NP02", n.Pos(), "a handle of database/sql that is not limited to one connection, open and idle, where it is made")
	case (log || prints.MatchString(name)) && slices.ContainsFunc(n.Args, c.isSecret):
		c.add("NP24", n.Pos(), "what the environment says, which can hold a password, is printed")
	}
	if log {
		c.checkLog(n, strings.Contains(name, "Debug"))
	}
	if c.writes(n) || setsHeader.MatchString(name) && c.isSent(n.Fun) || isAnswer.MatchString(typeName(c.TypeOf(n))) {
		c.checkWords(n)
	}
}

// limits reports whether the function around sets a limit of database/sql's to one connection.
func (c *checker) limits(outer []ast.Node, which string) bool {
	function := c.around(outer)
	return function != nil && has(function, func(n ast.Node) bool {
		return c.called(n) == "(*database/sql.DB).SetMax"+which+"Conns" && types.ExprString(n.(*ast.CallExpr).Args[0]) == "1"
	})
}

// made is what makes a value: the function, where that is called here.
func made(e ast.Expr) ast.Expr {
	if call, ok := e.(*ast.CallExpr); ok {
		return call.Fun
	}
	return e
}

// given reports whether a function around has a parameter of a kind.
func (c *checker) given(outer []ast.Node, kind func(types.Type) bool) bool {
	return slices.ContainsFunc(outer, func(n ast.Node) bool {
		f := c.signature(n)
		return f != nil && slices.ContainsFunc(typesOf(f.Params().Variables()), kind)
	})
}

// has reports whether something below a node is so, function literals left out.
func has(n ast.Node, so func(n ast.Node) bool) (found bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		_, literal := n.(*ast.FuncLit)
		found = found || n != nil && so(n)
		return !literal && !found
	})
	return found
}

// writes reports whether a call is given the response, or is one of its methods, or of what was made with it.
func (c *checker) writes(call *ast.CallExpr) bool {
	response := func(n ast.Node) bool { e, ok := n.(ast.Expr); return ok && isResponse(c.TypeOf(e)) }
	return has(call, func(n ast.Node) bool {
		return response(n) || slices.ContainsFunc(c.values[c.variable(n)], func(value ast.Expr) bool {
			return makesWrite.MatchString(c.called(value)) && has(value, response)
		})
	})
}

// isSent reports whether the header of a response is behind an expression.
func (c *checker) isSent(header ast.Expr) bool {
	return slices.ContainsFunc(c.behind(header), func(n ast.Node) bool {
		return c.called(n) == "(net/http.ResponseWriter).Header"
	})
}

// behind returns each node of an expression, and of what its variables were given and the functions of its package return.
// What strings.CutPrefix leaves of a text is no longer that text, and the parts of a constant text are not looked at one by one.
func (c *checker) behind(e ast.Node) (nodes []ast.Node) {
	seen := map[types.Object]bool{(*types.Var)(nil): true}
	var into func(n ast.Node)
	into = func(n ast.Node) {
		ast.Inspect(n, func(n ast.Node) bool {
			of := types.Object(c.variable(n))
			if f := c.function(n); f != nil {
				of = f.Origin()
			}
			if !seen[of] && !is(of.Type(), "error") {
				seen[of] = true
				for _, value := range c.values[of] {
					into(value)
				}
			}
			if n != nil {
				nodes = append(nodes, n)
			}
			return c.called(n) != "strings.CutPrefix" && c.text(n) == ""
		})
	}
	into(e)
	return nodes
}

// mentions reports whether a name is among those behind an expression.
func (c *checker) mentions(e ast.Node, name *regexp.Regexp) bool {
	return slices.ContainsFunc(c.behind(e), func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		return ok && name.MatchString(id.Name)
	})
}

// isSecret reports whether an expression is what the environment or a configuration says, or a variable with that.
func (c *checker) isSecret(e ast.Expr) bool {
	return slices.ContainsFunc(append(c.values[c.variable(e)], e), func(e ast.Expr) bool {
		return secrets.MatchString(c.called(e)) && !has(e, func(n ast.Node) bool { return plain.MatchString(c.text(n)) })
	})
}

// checkTexts looks at the texts that a query or a program is given (NP16, NP03). What is added to another begins nothing.
func (c *checker) checkTexts(args []ast.Expr, name string, query bool) {
	program := programs.MatchString(name) && !c.within(mayDial)
	if query = query && !c.within(mayUseSQL); !program && !query {
		return
	}
	isSQL := func(arg ast.Expr) bool { t := c.TypeOf(arg); return t != nil && is(t.Underlying(), "string") }
	if i := slices.IndexFunc(args, isSQL); i >= 0 && statements.MatchString(name) {
		args = args[i : i+1] // the others are values
	}
	added := map[ast.Node]string{}
	for _, arg := range args {
		for _, n := range c.behind(arg) {
			var rest []ast.Expr // what is added to a text, or a format is given
			switch n := n.(type) {
			case *ast.BinaryExpr:
				rest = []ast.Expr{n.Y}
			case *ast.CallExpr:
				rest = n.Args[min(1, len(n.Args)):]
			}
			for _, more := range rest {
				for _, part := range c.behind(more) {
					added[part] = "+"
				}
			}
			text := added[n] + c.text(n)
			if query && (outlives.MatchString(text) || temporary.MatchString(text) && !dropped.MatchString(text)) {
				c.add("NP16", n.Pos(), "the effect of this outlives its transaction")
			} else if query && statements.MatchString(name) && transaction.MatchString(text) && !c.within(probes) {
				c.add("NP16", n.Pos(), "the transaction is the session's: it ends by Commit and Rollback, or with its function")
			} else if program && connects.MatchString(text) {
				c.add("NP03", n.Pos(), "runs a program that opens a connection beside the engine")
			}
		}
	}
}

// answers reports whether a function that is written here, or in a variable, or made with a response, sends something of
// a response: its header may still change. What else the function uses was made before it runs.
func (c *checker) answers(work ast.Expr) bool {
	toClient := func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		name := c.called(n)
		return ok && !sendsNone.MatchString(name) && (sends.MatchString(name) ||
			slices.ContainsFunc(call.Args, func(arg ast.Expr) bool { return isResponse(c.TypeOf(arg)) }))
	}
	return slices.ContainsFunc(append(c.values[c.variable(work)], work), func(e ast.Expr) bool {
		lit, ok := e.(*ast.FuncLit)
		return toClient(e) || ok && slices.ContainsFunc(slices.Collect(ast.Preorder(lit)), toClient)
	})
}

// text is that of a constant.
func (c *checker) text(n ast.Node) string {
	e, _ := n.(ast.Expr)
	if value := c.Types[e].Value; value != nil && value.Kind() == constant.String {
		return constant.StringVal(value)
	}
	return ""
}

// opens reports whether a call returns a session that has to be ended.
func (c *checker) opens(n *ast.CallExpr) bool {
	f := c.function(n)
	if f == nil { // a function in a variable or a field
		return c.begins(n) && slices.ContainsFunc(n.Args, func(arg ast.Expr) bool { return is(c.TypeOf(arg), c.module+"/internal/nopool.TxOptions") })
	}
	of := f.Signature().Recv()
	return begins.MatchString(f.FullName()) || c.does[f.FullName()+opensSessions] ||
		of != nil && types.IsInterface(of.Type()) && c.holds(f.Signature().Results(), isSession)
}

// checkEnd finds a session that is used before its Rollback is deferred, rows that are neither closed nor handed on, and
// a row that nobody scans (NP04).
func (c *checker) checkEnd(n *ast.CallExpr, outer []ast.Node) {
	session, how := c.opens(n), "Close"
	i := slices.IndexFunc(results(c.TypeOf(n)), func(t types.Type) bool {
		name := typeName(t)
		if session {
			how = "Rollback"
			return isSession.MatchString(name)
		} else if strings.HasSuffix(name, ".Row") {
			how = "Scan"
		}
		return isOpen.MatchString(name)
	})
	function := c.around(outer)
	if i < 0 || function == nil && !session { // in a variable of the package nothing has been queried
		return
	}
	var made *types.Var
	switch in := outer[len(outer)-1].(type) {
	case *ast.AssignStmt: // of several results, or several values
		made = c.variable(in.Lhs[max(i, slices.Index(in.Rhs, ast.Expr(n)))])
	case *ast.ValueSpec:
		made = c.variable(in.Names[max(i, slices.Index(in.Values, ast.Expr(n)))])
	case *ast.SelectorExpr:
		if in.Sel.Name == how && !session {
			return
		}
	case *ast.ExprStmt, *ast.DeferStmt, *ast.BinaryExpr:
	case *ast.ReturnStmt:
		return
	default:
		if !session { // handed on
			return
		}
	}
	if made == nil || function == nil || !c.ends(function, n, made, how) {
		c.add("NP04", n.Pos(), "nobody ends this on every way out: defer a session's Rollback before its first use, Close of rows; Scan a row")
	}
}

// ends reports whether a function sees to the end of what a variable has: a session by a Rollback that is deferred before
// all other use; rows by a Close, and a row by a Scan, that is deferred or comes before any return, or by handing them to
// anybody, or a part of a value; either by returning it.
func (c *checker) ends(function, maker ast.Node, made *types.Var, how string) (ended bool) {
	session := how == "Rollback"
	used, left := false, token.NoPos // left is the end of the first return behind a use
	ast.PreorderStack(function, nil, func(n ast.Node, outer []ast.Node) bool {
		if back, ok := n.(*ast.ReturnStmt); ok && used && !left.IsValid() {
			left = back.End()
		}
		if c.variable(n) != made || n.Pos() < maker.End() || used && session {
			return true
		}
		deferred := slices.IndexFunc(outer, isDefer)
		used = !session || deferred < 0
		switch in := outer[len(outer)-1].(type) {
		case *ast.AssignStmt: // in another branch
			used = used && !slices.ContainsFunc(in.Lhs, func(to ast.Expr) bool { return to == n })
		case *ast.SelectorExpr:
			always := deferred > 0 && !slices.ContainsFunc(outer[1:], func(around ast.Node) bool {
				branch, ok := around.(*ast.IfStmt) // nor in a function that may never be called
				lit, nested := around.(*ast.FuncLit)
				return ok && maker.Pos() < branch.Pos() && n.Pos() > branch.Body.Pos() || nested && lit.Pos() < outer[deferred].Pos()
			})
			inTime := always || !left.IsValid() || left > n.Pos()
			ended = ended || in.Sel.Name == how && (always || !session && inTime)
		case *ast.ReturnStmt:
			ended = true
		case *ast.CallExpr:
			used = used && !endsOrKeep.MatchString(c.called(in))
			ended = ended || !session
		case *ast.CompositeLit, *ast.KeyValueExpr:
			ended = ended || !session
		}
		return true
	})
	return ended
}

// runs reports whether a node runs a transaction that may write, by itself or by a function of the owner's.
func (c *checker) runs(n ast.Node) bool {
	if c.does[c.called(n)+runsWork] {
		return true
	}
	call, ok := n.(*ast.CallExpr) // with one argument where a function returns all three
	return ok && repeatable.MatchString(c.called(n)) && !c.mentions(call.Args[min(1, len(call.Args)-1)], re(`^ReadOnly$`))
}

// isRepeated reports whether a call is made again where it failed, and not where it went well: in a loop, by a goto, by the
// same call, or because its function is begun again there. Who asks which error it was knows what he repeats.
func (c *checker) isRepeated(call *ast.CallExpr, outer []ast.Node) bool {
	for i, n := range outer {
		body, ok := n.(*ast.BlockStmt)
		if !ok || c.signature(outer[i-1]) == nil || has(body, c.decides) {
			continue
		}
		for _, b := range cfg.New(body, func(*ast.CallExpr) bool { return true }).Blocks {
			failed, other := c.outcomes(b, call)
			for again := range ast.Preorder(body) {
				if (again == call && !c.isForEach(call, outer) || again != call && c.isSame(again, call) || c.isItself(again, outer[i-1])) &&
					leads(failed, again, map[*cfg.Block]bool{}) && !leads(other, again, map[*cfg.Block]bool{}) {
					return true
				}
			}
		}
	}
	return false
}

// isForEach reports whether a call is made with what a loop ranges over, another thing each time.
func (c *checker) isForEach(call *ast.CallExpr, outer []ast.Node) bool {
	return slices.ContainsFunc(outer, func(n ast.Node) bool {
		loop, ok := n.(*ast.RangeStmt)
		return ok && !is(c.TypeOf(loop.X), "int") && slices.ContainsFunc(c.behind(call), func(n ast.Node) bool { // no number of attempts
			v := c.variable(n)
			return v != nil && (v == c.variable(loop.Key) || v == c.variable(loop.Value))
		})
	})
}

// decides reports whether a node asks which error it is, as errors.Is and functions of the owner's do.
func (c *checker) decides(n ast.Node) bool {
	call, ok := n.(*ast.CallExpr)
	return ok && slices.ContainsFunc(results(c.TypeOf(call)), func(t types.Type) bool { return is(t, "bool") }) &&
		slices.ContainsFunc(call.Args, func(arg ast.Expr) bool { return is(c.TypeOf(arg), "error") })
}

// isSame reports whether a node is a call with the text of another, contexts left out; no text says what a literal does.
func (c *checker) isSame(n ast.Node, call *ast.CallExpr) bool {
	text := func(call *ast.CallExpr) string {
		args := slices.DeleteFunc(slices.Clone(call.Args), func(arg ast.Expr) bool { return isContext(c.TypeOf(arg)) })
		return types.ExprString(&ast.CallExpr{Fun: call.Fun, Args: args})
	}
	other, ok := n.(*ast.CallExpr)
	return ok && text(other) == text(call) && !strings.Contains(text(call), " literal)")
}

// isItself reports whether a node names a function, or a variable with it.
func (c *checker) isItself(n, function ast.Node) bool {
	id, ok := n.(*ast.Ident)
	if declared, named := function.(*ast.FuncDecl); named {
		return ok && c.Uses[id] == c.Defs[declared.Name]
	}
	return ok && slices.ContainsFunc(c.values[c.variable(id)], func(value ast.Expr) bool { return value == function })
}

// outcomes are where a block leads that compares the error of a call with nil: surely with an error, and the other way.
func (c *checker) outcomes(b *cfg.Block, call *ast.CallExpr) (failed, other *cfg.Block) {
	if len(b.Succs) < 2 || len(b.Nodes) == 0 {
		return nil, nil
	}
	asked := b.Nodes[len(b.Nodes)-1]
	condition, _ := asked.(ast.Expr)
	text := types.ExprString(condition)
	given := func(value ast.Expr) bool { return spans(value, call) }
	if c.Types[condition].IsNil() { // a case of a switch
		return b.Succs[1], b.Succs[0]
	}
	for n := range ast.Preorder(asked) {
		part, ok := n.(*ast.BinaryExpr)
		switch {
		case !ok || !c.Types[part.Y].IsNil() || !slices.ContainsFunc(append(c.values[c.changed(part.X)], part.X), given): // or asks about another's
		case part.Op == token.NEQ && !strings.Contains(text, "||"):
			return b.Succs[0], b.Succs[1]
		case part.Op == token.EQL && !strings.Contains(text, "&&"):
			return b.Succs[1], b.Succs[0]
		}
	}
	return nil, nil
}

// leads reports whether a node can come after the begin of a block.
func leads(from *cfg.Block, to ast.Node, seen map[*cfg.Block]bool) bool {
	if from == nil || seen[from] {
		return false
	}
	seen[from] = true
	return slices.ContainsFunc(from.Nodes, func(n ast.Node) bool { return spans(n, to) }) ||
		slices.ContainsFunc(from.Succs, func(next *cfg.Block) bool { return leads(next, to, seen) })
}

func isDefer(n ast.Node) bool     { _, ok := n.(*ast.DeferStmt); return ok }
func spans(n, part ast.Node) bool { return n.Pos() <= part.Pos() && part.End() <= n.End() }

// checkWords looks for words that a client must not be sent (NP24): the server's, and the text of an error.
func (c *checker) checkWords(below ast.Node) {
	for _, n := range c.behind(below) {
		if c.isServers(n) {
			c.add("NP24", n.Pos(), "the client is sent the server's words, which can quote data")
		} else if c.isText(n) {
			c.add("NP24", n.Pos(), "the client is sent the text of an error")
		} else if call, ok := n.(*ast.CallExpr); ok && isCounters.MatchString(typeName(c.TypeOf(call))) && !c.within(mayOpen) {
			c.add("NP24", n.Pos(), "the engine's counters are for those who run the service, not for its clients")
		}
	}
}

// serverWords are the fields of an error of Postgres that quote data or SQL.
var serverWords = re(`^(Message|Detail|Hint|Where|InternalQuery)$`)

// isServers reports whether a node is what the server said.
func (c *checker) isServers(n ast.Node) bool {
	v := c.variable(n)
	return v != nil && v.IsField() && pgconn.MatchString(v.Pkg().Path()) && serverWords.MatchString(v.Name())
}

// isText reports whether a node makes a text of an error, but for one that a package declares, which always says the same.
func (c *checker) isText(n ast.Node) bool {
	if c.called(n) == "(error).Error" {
		v := c.variable(n.(*ast.CallExpr).Fun.(*ast.SelectorExpr).X)
		changes := func(to ast.Expr) bool { return c.called(to) != "errors.New" }
		return v == nil || v.Kind() != types.PackageVar || c.values[v] == nil || slices.ContainsFunc(c.values[v], changes)
	}
	return prints.MatchString(c.called(n)) && slices.ContainsFunc(n.(*ast.CallExpr).Args, func(arg ast.Expr) bool {
		return is(c.TypeOf(arg), "error")
	})
}

// checkLog looks for what a log must not hold (NP24): errors as they are, and what came from a client or a row.
func (c *checker) checkLog(call *ast.CallExpr, debug bool) {
	for _, arg := range call.Args {
		t := c.TypeOf(arg)
		text := is(t, "error") || slices.ContainsFunc(c.behind(arg), func(n ast.Node) bool { return c.isText(n) || !debug && c.isServers(n) })
		_, ours := t.Underlying().(*types.Struct)
		ours = ours && strings.HasPrefix(typeName(t), c.module+"/") &&
			!slices.ContainsFunc([]string{"LogValue", "String", "Format"}, func(says string) bool { // what of it may be seen
				return types.NewMethodSet(t).Lookup(nil, says) != nil
			})
		switch {
		case text:
			c.add("NP24", arg.Pos(), "an error in the log can quote data: log nopool.Describe of it")
		case is(t, "[]any") && !call.Ellipsis.IsValid(), re(`^net/http\.Header$|^\*?net/url\.(URL|Values)$|NamedArgs$`).MatchString(typeName(t)), ours:
			c.add("NP24", arg.Pos(), "the log gets all of a value, which can be what a client sent")
		}
	}
}

// checkBody finds a function with a session that reads a request's body after its first query (NP13): the client decides
// how long the connection is held.
func (c *checker) checkBody(function ast.Node) {
	if !c.holds(c.signature(function).Params(), isConnection) {
		return
	}
	queried := token.NoPos // the end of the first query
	for n := range ast.Preorder(function) {
		if call, ok := n.(*ast.CallExpr); ok && !queried.IsValid() && c.isQuery(call) {
			queried = call.End()
		} else if _, ok := n.(*ast.FuncLit); ok && queried.IsValid() { // such as the source of a COPY
			queried = min(queried, n.Pos())
		}
	}
	ast.PreorderStack(function, nil, func(n ast.Node, outer []ast.Node) bool {
		if queried.IsValid() && (n.Pos() > queried || slices.ContainsFunc(outer, isDefer)) && c.readsBody(n) {
			c.add("NP13", n.Pos(), "reads the request's body with a connection open, which is held for as long as the client likes")
		}
		method, ok := n.(*ast.SelectorExpr)
		return !ok || method.Sel.Name != "Close"
	})
}

// readsBody reports whether a node is a request's body, a variable with what reads it, or a call that does.
func (c *checker) readsBody(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.Ident:
		return c.bodies[c.variable(n)]
	case *ast.SelectorExpr:
		return isRequest(c.TypeOf(n.X)) && n.Sel.Name == "Body"
	case *ast.CallExpr:
		name := c.called(n)
		return readsForm.MatchString(name) || c.does[name+readsBodies] && slices.ContainsFunc(n.Args, func(arg ast.Expr) bool { return isRequest(c.TypeOf(arg)) })
	}
	return false
}

// ofBody reports whether a value reads a request's body, or is a function that does; what was read of it does not.
func (c *checker) ofBody(value ast.Expr) bool {
	switch value := value.(type) {
	case *ast.FuncLit:
		return has(value.Body, c.readsBody)
	case *ast.CallExpr:
		method, ok := value.Fun.(*ast.SelectorExpr)
		return isReader.MatchString(typeName(results(c.TypeOf(value))[0])) &&
			(readsForm.MatchString(c.called(value)) || ok && c.ofBody(method.X) || slices.ContainsFunc(value.Args, c.ofBody))
	}
	return c.readsBody(value)
}

// isQuery reports whether a call uses a session. One that only wraps it, as sqlc's New does, is none.
func (c *checker) isQuery(call *ast.CallExpr) bool {
	if endsOrKeep.MatchString(c.called(call)) {
		return false
	}
	uses := func(e ast.Expr) bool { return c.holds(c.TypeOf(e), isConnection) }
	if method, ok := call.Fun.(*ast.SelectorExpr); ok && uses(method.X) {
		return true
	}
	return slices.ContainsFunc(call.Args, uses) && !uses(call)
}
