package verify

import (
	"go/ast"
	"go/types"
	"slices"
	"strings"
)

// What functions of the owner's do, in source.does behind their names.
const readsBodies, opensSessions, repeatsWork, startsAnew = " reads a body", " opens a session", " repeats what it is given", " makes a context"

// learn notes what functions do, and which variables carry a session though their types do not say so: those that are given
// one, or a function that uses one. A parameter of the owner's functions is such a variable, so what is done with it is
// found where it is done.
func (c *checker) learn(n ast.Node, outer []ast.Node) {
	if c.within(engine) {
		return
	}
	moves(n, func(to, value ast.Expr) {
		if v := c.stays(to); v != nil && c.moved(to, value) {
			c.carried[v] = true
		}
	})
	call, ok := n.(*ast.CallExpr)
	if f := c.function(n); f != nil {
		params := typesOf(f.Origin().Signature().Params().Variables())
		for i, arg := range call.Args {
			if i = min(i, len(params)-1); i >= 0 && canHide(params[i]) && c.carries(arg) {
				c.carried[f.Origin().Signature().Params().At(i)] = true
			}
		}
	}
	if len(outer) < 2 || !ok && !c.readsBody(n) {
		return
	}
	fn, ok := outer[1].(*ast.FuncDecl)
	if !ok {
		return
	}
	known := c.Defs[fn.Name].(*types.Func)
	switch {
	case c.readsBody(n):
		c.does[known.FullName()+readsBodies] = true
	case c.opens(call) && c.holds(known.Signature().Results(), isSession):
		c.does[known.FullName()+opensSessions] = true
	case noContext.MatchString(c.called(call)) && slices.ContainsFunc(typesOf(known.Signature().Results().Variables()), isContext):
		c.does[known.FullName()+startsAnew] = true
	default:
		if v := c.variable(call.Fun); v != nil && v.Kind() == types.ParamVar && slices.ContainsFunc(outer, c.repeats) {
			c.does[known.FullName()+repeatsWork] = true
		}
	}
}

// moves calls do with each place that a node gives a value.
func moves(n ast.Node, do func(to, value ast.Expr)) {
	switch n := n.(type) {
	case *ast.AssignStmt:
		for i, to := range n.Lhs {
			do(to, n.Rhs[min(i, len(n.Rhs)-1)])
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
	}
}

// moved reports whether a place is given a session.
func (c *checker) moved(to, value ast.Expr) bool {
	id, ok := to.(*ast.Ident)
	return (!ok || id.Name != "_") && canHide(c.TypeOf(to)) && c.carries(value)
}

// collect notes what variables are given.
func (c *checker) collect(n ast.Node, _ []ast.Node) {
	moves(n, func(to, value ast.Expr) {
		switch part := to.(type) { // of a variable
		case *ast.SelectorExpr:
			to = part.X
		case *ast.IndexExpr:
			to = part.X
		}
		if v := c.variable(to); v != nil {
			c.values[v] = append(c.values[v], value)
		}
	})
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
