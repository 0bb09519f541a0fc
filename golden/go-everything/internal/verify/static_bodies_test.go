package verify

import (
	"go/ast"
	"go/token"
	"go/types"
	"regexp"
	"slices"
)

var (
	readsBody  = regexp.MustCompile(`^\(\*net/http\.Request\)\.(FormFile|FormValue|MultipartReader|ParseForm|ParseMultipartForm|PostFormValue)$`)
	endsOrKeep = regexp.MustCompile(`/internal/nopool\.(Session\)\.(Commit|Finish|Rollback)|WithSession)$`)
)

// findReaders collects the functions that read a request's body, those that call one with a request included.
func (s *source) findReaders() {
	s.readers = map[string]bool{}
	for before := -1; before < len(s.readers); {
		before = len(s.readers)
		for _, p := range s.packages {
			c := &checker{source: s, pkg: p}
			for _, file := range p.Syntax {
				for _, declared := range file.Decls {
					if f, ok := declared.(*ast.FuncDecl); ok {
						ast.Inspect(f, func(n ast.Node) bool {
							if c.readsBody(n) {
								s.readers[p.TypesInfo.Defs[f.Name].(*types.Func).FullName()] = true
							}
							return true
						})
					}
				}
			}
		}
	}
}

// checkBodies finds a function with a session that reads a request's body after its first query (NP13): the client decides
// how long the connection is held.
func (c *checker) checkBodies(file *ast.File) {
	ast.Inspect(file, func(n ast.Node) bool {
		function := c.signature(n)
		if function == nil || !holds(function.Params(), isConnection) {
			return true
		}
		queried := token.NoPos // the end of the first query
		ast.Inspect(n, func(n ast.Node) bool {
			if queried.IsValid() && c.readsBody(n) && n.Pos() > queried {
				c.add("NP13", n.Pos(), "reads the request's body with a connection open, which is held for as long as the client likes")
			}
			if call, ok := n.(*ast.CallExpr); ok && !queried.IsValid() && c.isQuery(call) {
				queried = call.End()
			}
			return true
		})
		return true
	})
}

// readsBody reports whether a node is a request's body, or a call that reads it.
func (c *checker) readsBody(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.SelectorExpr:
		field, ok := c.pkg.TypesInfo.Uses[n.Sel].(*types.Var)
		return ok && field.IsField() && field.Pkg().Path() == "net/http" && field.Name() == "Body" && isRequest(c.pkg.TypesInfo.TypeOf(n.X))
	case *ast.CallExpr:
		f := c.function(n)
		return f != nil && (readsBody.MatchString(f.FullName()) || c.readers[f.FullName()] &&
			slices.ContainsFunc(n.Args, func(arg ast.Expr) bool { return isRequest(c.pkg.TypesInfo.TypeOf(arg)) }))
	}
	return false
}

func isRequest(t types.Type) bool {
	return types.TypeString(types.Unalias(t), nil) == "*net/http.Request"
}

// isQuery reports whether a call uses a session. One that only wraps it, as sqlc's New does, is none.
func (c *checker) isQuery(call *ast.CallExpr) bool {
	f := c.function(call)
	if f != nil && endsOrKeep.MatchString(f.FullName()) {
		return false
	}
	uses := func(e ast.Expr) bool { return holds(c.pkg.TypesInfo.TypeOf(e), isConnection) }
	if method, ok := call.Fun.(*ast.SelectorExpr); ok && uses(method.X) {
		return true
	}
	return slices.ContainsFunc(call.Args, uses) && !uses(call)
}
