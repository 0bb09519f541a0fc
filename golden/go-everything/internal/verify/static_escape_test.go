package verify

import (
	"go/ast"
	"go/types"
	"slices"
	"strings"
)

// checkStoringCall finds a connection given to a container of the standard
// library that takes any value, such as sync.Map or container/list (NP15).
func (c *checker) checkStoringCall(n *ast.CallExpr) {
	path, _ := c.callee(n)
	if !strings.HasPrefix(path, "sync") && !strings.HasPrefix(path, "container/") {
		return
	}
	for _, arg := range n.Args {
		if found := c.holds(c.pkg.TypesInfo.TypeOf(arg), search{interfaces: true}); found != "" {
			c.add("NP15", arg.Pos(), "stores %s in a container of package %s", found, path)
		}
	}
}

// callee names the function or method that a call calls, as far as it is one
// of another package: its package's path and its name.
func (c *checker) callee(n *ast.CallExpr) (path, name string) {
	fun := ast.Unparen(n.Fun)
	if index, ok := fun.(*ast.IndexExpr); ok {
		fun = index.X
	}
	var id *ast.Ident
	switch fun := fun.(type) {
	case *ast.Ident:
		id = fun
	case *ast.SelectorExpr:
		id = fun.Sel
	default:
		return "", ""
	}
	f, ok := c.pkg.TypesInfo.Uses[id].(*types.Func)
	if !ok || f.Pkg() == nil {
		return "", ""
	}
	return f.Pkg().Path(), f.Name()
}

// captured returns the first variable from around a function literal that is,
// or holds, a connection, and what it is; package variables are declarations
// and looked at as such.
func (c *checker) captured(lit *ast.FuncLit) (v *types.Var, found string) {
	info := c.pkg.TypesInfo
	ast.Inspect(lit.Body, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		if !ok || v != nil {
			return v == nil
		}
		used, ok := info.Uses[id].(*types.Var)
		if !ok || used.IsField() || used.Pkg() == nil || used.Parent() == used.Pkg().Scope() {
			return true
		}
		if lit.Pos() <= used.Pos() && used.Pos() < lit.End() {
			return true // its own parameter or variable
		}
		if found = c.holds(used.Type(), search{interfaces: true}); found != "" {
			v = used
		}
		return true
	})
	return v, found
}

// checkLiteral finds a function literal that captures a connection and lives
// longer than the session: one that is returned, stored, sent, or is itself a
// handler (NP15), and one that runs beside the session's owner (NP03).
func (c *checker) checkLiteral(lit *ast.FuncLit, outer []ast.Node) {
	if c.within(engine) {
		return
	}
	v, found := c.captured(lit)
	if v == nil {
		return
	}
	var parent ast.Node
	for i := len(outer) - 1; i >= 0 && parent == nil; i-- {
		if _, paren := outer[i].(*ast.ParenExpr); !paren {
			parent = outer[i]
		}
	}
	var how string
	switch p := parent.(type) {
	case *ast.ReturnStmt:
		if !c.returnsConnection(outer) {
			how = "is returned"
		}
	case *ast.KeyValueExpr, *ast.CompositeLit:
		how = "is kept in a value"
	case *ast.SendStmt:
		how = "is sent on a channel"
	case *ast.AssignStmt:
		how = c.assigned(p, lit)
	case *ast.CallExpr:
		path, name := c.callee(p)
		switch {
		case ast.Unparen(p.Fun) == lit: // called, deferred or started here
		case isHandler(c.pkg.TypesInfo.TypeOf(lit)):
			how = "is a handler"
		case name == "Go" || name == "AfterFunc":
			c.add("NP03", lit.Pos(), "%s.%s runs a function beside the owner of %s (%s)", path, name, v.Name(), found)
		case strings.HasPrefix(path, "sync") && strings.HasPrefix(name, "Once"):
			how = "is kept by sync." + name
		}
	}
	if how != "" {
		c.add("NP15", lit.Pos(), "a function that uses %s (%s) %s and outlives the session", v.Name(), found, how)
	}
}

// assigned says how an assignment lets a literal outlive the function: into a
// package variable, a field or an element. A local variable does not.
func (c *checker) assigned(n *ast.AssignStmt, lit *ast.FuncLit) string {
	for i, from := range n.Rhs {
		if ast.Unparen(from) != lit || i >= len(n.Lhs) {
			continue
		}
		id, ok := ast.Unparen(n.Lhs[i]).(*ast.Ident)
		if !ok {
			return "is stored"
		}
		if v, ok := c.pkg.TypesInfo.ObjectOf(id).(*types.Var); ok && v.Parent() == c.pkg.Types.Scope() {
			return "is stored in a package variable"
		}
	}
	return ""
}

// returnsConnection reports whether the function around a literal returns the
// connection too: then the literal is its clean-up, and goes with it.
func (c *checker) returnsConnection(outer []ast.Node) bool {
	for _, node := range slices.Backward(outer) {
		var t types.Type
		switch f := node.(type) {
		case *ast.FuncLit:
			t = c.pkg.TypesInfo.TypeOf(f)
		case *ast.FuncDecl:
			t = c.pkg.TypesInfo.Defs[f.Name].Type()
		default:
			continue
		}
		return c.holds(t.(*types.Signature).Results(), search{interfaces: true}) != ""
	}
	return false
}

// isHandler reports whether a function is an HTTP handler: it takes a
// http.ResponseWriter first.
func isHandler(t types.Type) bool {
	s, ok := t.Underlying().(*types.Signature)
	if !ok || s.Params().Len() == 0 {
		return false
	}
	return isResponseWriter(s.Params().At(0).Type())
}

func isResponseWriter(t types.Type) bool {
	n, ok := types.Unalias(t).(*types.Named)
	return ok && n.Obj().Name() == "ResponseWriter" && n.Obj().Pkg().Path() == "net/http"
}
