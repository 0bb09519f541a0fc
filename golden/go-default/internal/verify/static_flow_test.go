package verify

import (
	"go/ast"
	"go/types"
	"slices"
	"strings"
)

// What functions of the owner's do, in source.does behind their names.
const readsBodies, opensSessions, runsWork, repeatsWork, startsAnew = " reads a body", " opens a session", " runs a transaction", " repeats what it is given", " makes a context"

// learn notes which variables read a body, and which carry a session though their types do not say so: those that are given
// one, or a function that uses one. A receiver or parameter of the owner's functions is such a variable, so what is done with
// it is found where it is done.
func (c *checker) learn(n ast.Node, outer []ast.Node) {
	if c.within(engine) {
		return
	}
	moves(n, func(to, value ast.Expr) {
		if v := c.stays(to); v != nil && c.moved(to, value) {
			c.carried[v] = true
		}
		if v := c.variable(to); v != nil && (isReader.MatchString(typeName(v.Type())) || isFunction(v.Type())) && c.ofBody(value) {
			c.bodies[v] = true
		}
	})
	if f := c.function(n); f != nil {
		call, signature := n.(*ast.CallExpr), f.Origin().Signature()
		if method, ok := call.Fun.(*ast.SelectorExpr); ok && signature.Recv() != nil && !c.begins(method.X) && c.carries(method.X) {
			c.carried[signature.Recv()] = true
		}
		for i, arg := range call.Args {
			if i = min(i, signature.Params().Len()-1); i >= 0 && canHide(signature.Params().At(i).Type()) && c.carries(arg) {
				c.carried[signature.Params().At(i)] = true
			}
		}
	}
	if len(outer) > 1 {
		if fn, ok := outer[1].(*ast.FuncDecl); ok {
			c.learnFunction(c.Defs[fn.Name].(*types.Func), n, outer)
		}
	}
}

// learnFunction notes what a function of the owner's does by one of its nodes.
func (c *checker) learnFunction(f *types.Func, n ast.Node, outer []ast.Node) {
	call, ok := n.(*ast.CallExpr)
	results := f.Signature().Results()
	switch {
	case c.readsBody(n):
		c.does[f.FullName()+readsBodies] = true
	case !ok:
	case c.opens(call) && c.holds(results, isSession):
		c.does[f.FullName()+opensSessions] = true
	case noContext.MatchString(c.called(call)) && slices.ContainsFunc(typesOf(results.Variables()), isContext):
		c.does[f.FullName()+startsAnew] = true
	case c.runs(call) && !slices.ContainsFunc(outer, isLoop): // which may be work on many things
		c.does[f.FullName()+runsWork] = true
	default:
		if v := c.variable(call.Fun); v != nil && v.Kind() == types.ParamVar && c.isRepeated(call, outer) {
			c.does[f.FullName()+repeatsWork] = true
		}
	}
}

func isLoop(n ast.Node) bool {
	_, each := n.(*ast.RangeStmt)
	_, other := n.(*ast.ForStmt)
	return each || other
}

// moves calls do with each place that a node gives a value.
func moves(n ast.Node, do func(to, value ast.Expr)) {
	switch n := n.(type) {
	case *ast.AssignStmt:
		for i, to := range n.Lhs {
			do(to, n.Rhs[min(i, len(n.Rhs)-1)])
			if at, ok := to.(*ast.IndexExpr); ok {
				do(at.X, at.Index) // a map keeps its keys, too
			}
		}
	case *ast.ValueSpec:
		for i, to := range n.Names {
			if len(n.Values) > 0 {
				do(to, n.Values[min(i, len(n.Values)-1)])
			}
		}
	case *ast.RangeStmt:
		if n.Value != nil {
			do(n.Value, n.X)
		}
	case *ast.CallExpr:
		if name := types.ExprString(n.Fun); len(n.Args) == 2 && (name == "copy" || name == "maps.Copy") {
			do(n.Args[0], n.Args[1])
		}
	}
}

// moved reports whether a place is given a session.
func (c *checker) moved(to, value ast.Expr) bool {
	id, ok := to.(*ast.Ident)
	return (!ok || id.Name != "_") && canHide(c.TypeOf(to)) && c.carries(value)
}

// collect notes what variables are given, and what functions return that can hold a text.
func (c *checker) collect(n ast.Node, outer []ast.Node) {
	moves(n, func(to, value ast.Expr) {
		if v := c.changed(to); v != nil {
			c.values[v] = append(c.values[v], value)
		}
	})
	back, _ := n.(*ast.ReturnStmt)
	if f, ok := c.around(outer).(*ast.FuncDecl); ok && back != nil && !c.within(engine) {
		for i, value := range back.Results {
			if t := c.signature(f).Results().At(i).Type(); canHide(t) || is(t.Underlying(), "string") {
				c.values[c.Defs[f.Name]] = append(c.values[c.Defs[f.Name]], value)
			}
		}
	}
}

// changed is the variable that an assignment to an expression changes, or a part of it.
func (c *checker) changed(to ast.Expr) *types.Var {
	switch part := to.(type) {
	case *ast.SelectorExpr:
		to = part.X
	case *ast.IndexExpr:
		to = part.X
	}
	return c.variable(to)
}

// checkWayOut finds where a session outlives its function or is used beside it (NP15, NP03). The engine is at home with
// connections: there only what keeps them counts.
func (c *checker) checkWayOut(n ast.Node, outer []ast.Node) {
	leaves := func(rule string, at ast.Node, how string) {
		c.add(rule, at.Pos(), "a session, or what has one, %s", how)
	}
	home := c.within(engine)
	if call, ok := n.(*ast.CallExpr); ok && c.function(call) != nil {
		for _, arg := range call.Args {
			if rule, how := c.taken(c.function(call), arg); rule != "" && (c.begins(arg) || !home && c.carries(arg)) {
				leaves(rule, arg, how)
			}
		}
	}
	if home {
		return
	}
	moves(n, func(to, value ast.Expr) {
		if c.keepsBeyond(to, value, outer) {
			leaves("NP15", to, "is stored where it outlives its function")
		}
	})
	switch n := n.(type) {
	case *ast.SendStmt:
		if c.carries(n.Value) {
			leaves("NP03", n, "is sent to somebody beside its owner")
		}
	case *ast.GoStmt:
		if c.carries(n.Call.Fun) || slices.ContainsFunc(n.Call.Args, c.carries) {
			leaves("NP03", n, "is used by a goroutine beside its owner")
		}
	case *ast.ReturnStmt:
		results := c.signature(c.around(outer)).Results()
		for i, value := range n.Results {
			// A caller can see a session in the result's type, and is looked at when it gets a function.
			t := results.At(i).Type()
			_, generic := t.(*types.TypeParam)
			if !c.holds(t, isConnection) && canHide(t) && !generic && (!isFunction(t) || isHandler(t)) && c.carries(value) {
				leaves("NP15", n, "is returned as something else")
			}
		}
	}
}

// keepsBeyond reports whether a place that is given a session, or its context, is from around the function that has it. A
// field that is a context is a linter's, containedctx.
func (c *checker) keepsBeyond(to, value ast.Expr, outer []ast.Node) bool {
	_, field := to.(*ast.SelectorExpr)
	if !c.moved(to, value) && (field || !hasContext(c.TypeOf(to)) || !c.given(outer, isRequest) && !c.given(outer, isOurs)) {
		return false
	}
	v := c.stays(to)
	return v == nil || slices.ContainsFunc(outer, func(n ast.Node) bool {
		lit, ok := n.(*ast.FuncLit)
		return ok && v.Pos() < lit.Pos() && c.holds(c.signature(lit).Params(), isConnection)
	})
}

// taken says how an argument leaves through a call, and which rule this breaks; nothing if it does not.
func (c *checker) taken(fn *types.Func, arg ast.Expr) (rule, how string) {
	switch name := fn.FullName(); {
	case !c.within(engine) && slices.Contains([]string{"AddCleanup", "AfterFunc", "Go", "RegisterOnShutdown", "SetFinalizer", "TryGo"}, fn.Name()):
		return "NP03", "is used beside its owner by " + fn.Name()
	case keeps.MatchString(name):
		return "NP15", "is kept by " + name
	case isHandler(c.TypeOf(arg)):
		return "NP15", "is kept by a handler"
	}
	return "", ""
}

// begins reports whether the type of an expression says that it has a session inside.
func (c *checker) begins(e ast.Expr) bool {
	return c.Types[e].IsValue() && !isFunction(c.TypeOf(e)) && c.holds(c.TypeOf(e), isConnection)
}

// carries reports whether the value of an expression has a session inside.
func (c *checker) carries(e ast.Expr) bool {
	if c.begins(e) {
		return true
	}
	switch e := e.(type) {
	case *ast.Ident:
		return c.carried[c.variable(e)]
	case *ast.SelectorExpr: // a method as a value, or a field
		selected := c.Selections[e]
		return selected != nil && (selected.Kind() == types.MethodVal && c.carries(e.X) || canHide(selected.Type()) && c.carried[c.stays(e)])
	case *ast.FuncLit:
		return slices.ContainsFunc(slices.Collect(ast.Preorder(e.Body)), func(n ast.Node) bool { // a variable from around it
			v := c.variable(n)
			return v != nil && v.Kind() != types.PackageVar && v.Kind() != types.FieldVar && (v.Pos() < e.Pos() || e.End() < v.Pos()) && c.carries(n.(*ast.Ident))
		})
	case *ast.CallExpr: // a conversion, append, what makes a function, or a context
		makes := c.Types[e.Fun]
		if !makes.IsType() && !makes.IsBuiltin() && !isFunction(c.TypeOf(e)) && !strings.HasPrefix(c.called(e), "context.With") {
			return false
		}
		method, ok := e.Fun.(*ast.SelectorExpr)
		return ok && c.carries(method.X) || slices.ContainsFunc(e.Args, c.carries)
	}
	found, t := false, c.TypeOf(e) // in a part; a key with its value has no type
	ast.Inspect(e, func(n ast.Node) bool {
		part, ok := n.(ast.Expr)
		found = found || ok && n != e && c.carries(part)
		return n == e && (t == nil || canHide(t))
	})
	return found
}

// stays returns the variable that an assignment changes, nil where it changes more than the function's own.
func (c *checker) stays(to ast.Expr) *types.Var {
	var inside ast.Expr
	switch e := ast.Unparen(to).(type) {
	case *ast.Ident:
		if v := c.variable(e); v != nil && v.Kind() != types.PackageVar {
			return v
		}
	case *ast.IndexExpr:
		inside = e.X
	case *ast.SliceExpr:
		inside = e.X
	case *ast.SelectorExpr:
		t := c.TypeOf(e.X)
		if ofRequest(t) {
			return c.stays(e.X)
		}
		if _, pointer := t.(*types.Pointer); t != nil && !pointer {
			inside = e.X
		}
	}
	if inside != nil {
		if v := c.stays(inside); v != nil && v.Kind() == types.LocalVar {
			return v
		}
	}
	return nil
}

// canHide reports whether a value of a type may have something inside that the type does not tell.
func canHide(t types.Type) bool {
	if t == nil || is(t, "error") {
		return false
	}
	_, basic := t.Underlying().(*types.Basic)
	return !basic
}
