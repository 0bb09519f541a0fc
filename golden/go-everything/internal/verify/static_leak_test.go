package verify

import (
	"go/ast"
	"go/types"
	"slices"
)

// serverWords are the fields of an error of Postgres that quote data or SQL.
var serverWords = []string{"Message", "Detail", "Hint", "Where", "InternalQuery"}

// checkLeaks finds the words of the server on their way to a client (NP24): in
// an error of the HTTP layer, or in a call that is given the response. What an
// error of any kind says must not be the text of http.Error.
func (c *checker) checkLeaks(file *ast.File) {
	info := c.pkg.TypesInfo
	inspect(file, func(n ast.Node, _ []ast.Node) {
		switch n := n.(type) {
		case *ast.CompositeLit:
			t, ok := types.Unalias(info.TypeOf(n)).(*types.Named)
			if ok && t.Obj().Pkg() != nil && t.Obj().Pkg().Path() == c.module+"/internal/httpapi" &&
				slices.Contains([]string{"Error", "FieldError"}, t.Obj().Name()) {
				c.checkWords(n, false)
			}
		case *ast.CallExpr:
			if slices.ContainsFunc(n.Args, func(arg ast.Expr) bool { return isResponseWriter(info.TypeOf(arg)) }) {
				path, name := c.callee(n)
				c.checkWords(n, path == "net/http" && name == "Error")
			}
		}
	})
}

// checkWords looks below a node for the server's words, or for those of every
// error.
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
