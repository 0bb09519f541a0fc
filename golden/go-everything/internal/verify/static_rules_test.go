package verify

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strconv"
)

// checkImports finds packages that are a pool (NP14), whatever name they are
// imported under, also a blank one.
func (c *checker) checkImports(specs []*ast.ImportSpec, fset *token.FileSet) {
	for _, spec := range specs {
		path, _ := strconv.Unquote(spec.Path.Value)
		at := fset.Position(spec.Pos())
		switch {
		case poolPackage.MatchString(path):
			c.addAt("NP14", at, "imports %s, which keeps a pool", path)
		case pgxStdlib.MatchString(path) && !c.within(mayUseSQL):
			c.addAt("NP14", at, "imports %s, which gives database/sql its pool", path)
		}
	}
}

// checkUses finds every mention of what opens a connection beside the engine
// (NP03) or belongs to a pool (NP14), under any name it has here, and every
// value of a pool's type, wherever it came from.
func (c *checker) checkUses(file *ast.File) {
	info := c.pkg.TypesInfo
	inspect(file, func(n ast.Node, _ []ast.Node) {
		switch n := n.(type) {
		case *ast.Ident:
			if obj := info.Uses[n]; obj != nil && obj.Pkg() != nil {
				c.checkUse(n, obj)
			}
			if v, ok := info.Defs[n].(*types.Var); ok && n.Name != "_" && !c.within(mayUseSQL) {
				if pool := c.holds(v.Type(), search{pools: true}); pool != "" {
					c.add("NP14", n.Pos(), "%s is, or holds, %s", n.Name, pool)
				}
			}
		case *ast.CallExpr:
			if pool := c.holds(info.TypeOf(n), search{pools: true}); pool != "" && !c.within(mayUseSQL) {
				c.add("NP14", n.Pos(), "this call returns %s", pool)
			}
		case *ast.GoStmt:
			c.checkGo(n)
		}
	})
}

// checkUse looks at one name that another package exports. Methods count with
// their receiver's type, so only package-level names are looked at here.
func (c *checker) checkUse(n *ast.Ident, obj types.Object) {
	if obj.Parent() != obj.Pkg().Scope() {
		return
	}
	path, name := obj.Pkg().Path(), obj.Name()
	isDial := dialing.MatchString(name) &&
		(pgxPackage.MatchString(path) || pgconn.MatchString(path) || pgproto.MatchString(path))
	switch {
	case poolPackage.MatchString(path):
		c.add("NP14", n.Pos(), "uses %s.%s, which keeps a pool", obj.Pkg().Name(), name)
	case path == "database/sql" && sqlPool.MatchString(name) && !c.within(mayUseSQL):
		c.add("NP14", n.Pos(), "uses sql.%s: database/sql hands connections on", name)
	case isDial && !c.within(mayDial):
		c.add("NP03", n.Pos(), "%s.%s opens a connection beside internal/nopool", obj.Pkg().Name(), name)
	case path == c.module+"/internal/nopool" && name == "Open" && !c.within(mayOpen) && c.rel != "internal/nopool":
		c.add("NP03", n.Pos(), "nopool.Open makes a second engine; only a command opens one")
	}
}

// checkGo finds a session that a goroutine uses while its owner may too
// (NP03): as the receiver, as an argument, or from around a function literal.
func (c *checker) checkGo(n *ast.GoStmt) {
	if c.within(engine) {
		return
	}
	info := c.pkg.TypesInfo
	wide := search{interfaces: true}
	for _, arg := range n.Call.Args {
		if found := c.holds(info.TypeOf(arg), wide); found != "" {
			c.add("NP03", arg.Pos(), "hands %s to a goroutine", found)
		}
	}
	switch fun := ast.Unparen(n.Call.Fun).(type) {
	case *ast.SelectorExpr:
		if found := c.holds(info.TypeOf(fun.X), wide); found != "" && info.Selections[fun] != nil {
			c.add("NP03", fun.Pos(), "uses %s in a goroutine", found)
		}
	case *ast.FuncLit:
		if v, found := c.captured(fun); v != nil {
			c.add("NP03", n.Pos(), "a goroutine uses %s (%s) of the function around it", v.Name(), found)
		}
	}
}

// checkDeclarations finds places that outlive a session by their nature and
// are made for a connection (NP15): package variables, struct fields and
// channels. The engine's own structs are a session's home.
func (c *checker) checkDeclarations(file *ast.File) {
	info := c.pkg.TypesInfo
	inspect(file, func(n ast.Node, _ []ast.Node) {
		switch n := n.(type) {
		case *ast.Ident:
			v, ok := info.Defs[n].(*types.Var)
			if !ok || n.Name == "_" {
				return
			}
			if v.Parent() == c.pkg.Types.Scope() {
				if found := c.holds(v.Type(), search{interfaces: true, factories: true}); found != "" {
					c.add("NP15", n.Pos(), "package variable %s can keep %s", n.Name, found)
				}
			}
		case *ast.TypeSpec:
			c.checkEngine(n)
		case *ast.StructType:
			c.checkFields(n)
		case *ast.ChanType:
			if found := c.holds(info.TypeOf(n.Value), search{interfaces: true}); found != "" {
				c.add("NP15", n.Pos(), "a channel of %s hands connections on", found)
			}
		}
	})
}

// checkEngine wants the engine itself to hold no connection: its sessions do.
func (c *checker) checkEngine(n *ast.TypeSpec) {
	if c.within(engine) && n.Name.Name == "DB" {
		if found := c.holds(c.pkg.TypesInfo.TypeOf(n.Type), search{}); found != "" {
			c.add("NP15", n.Pos(), "the engine can keep %s between sessions", found)
		}
	}
}

// checkFields looks at the fields of one struct. A struct that also holds a
// http.ResponseWriter belongs to one request, and so may its session.
func (c *checker) checkFields(n *ast.StructType) {
	info := c.pkg.TypesInfo
	ofRequest := slices.ContainsFunc(n.Fields.List, func(f *ast.Field) bool { return isResponseWriter(info.TypeOf(f.Type)) })
	if c.within(engine) {
		return
	}
	for _, field := range n.Fields.List {
		t := info.TypeOf(field.Type)
		found := c.holds(t, search{noSession: ofRequest})
		if found == "" || c.within(mayUseSQL) && c.holds(t, search{pools: true}) != "" {
			continue
		}
		c.add("NP15", field.Pos(), "a struct field can keep %s beyond its session", found)
	}
}

// checkEscapes finds values that leave the session they belong to (NP15):
// assigned to a package variable or to something of type any, or captured by
// a function that outlives the session.
func (c *checker) checkEscapes(file *ast.File) {
	inspect(file, func(n ast.Node, outer []ast.Node) {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if len(n.Lhs) == len(n.Rhs) {
				for i := range n.Lhs {
					c.checkStore(n.Lhs[i], n.Rhs[i])
				}
			}
		case *ast.CallExpr:
			c.checkStoringCall(n)
		case *ast.FuncLit:
			c.checkLiteral(n, outer)
		}
	})
}

// checkStore looks at one assignment of a connection: to a package variable,
// whatever its type says, or to a field or an element of type any.
func (c *checker) checkStore(to, from ast.Expr) {
	found := c.holds(c.pkg.TypesInfo.TypeOf(from), search{interfaces: true})
	if found == "" {
		return
	}
	root, direct := ast.Unparen(to), true
	for {
		switch x := root.(type) {
		case *ast.SelectorExpr:
			root, direct = x.X, false
			if id, ok := x.X.(*ast.Ident); ok && c.isPackage(id) {
				root = x.Sel
			}
			continue
		case *ast.IndexExpr:
			root, direct = x.X, false
			continue
		case *ast.StarExpr:
			root, direct = x.X, false
			continue
		case *ast.ParenExpr:
			root = x.X
			continue
		}
		break
	}
	id, ok := root.(*ast.Ident)
	if !ok {
		return
	}
	v, _ := c.pkg.TypesInfo.ObjectOf(id).(*types.Var)
	switch {
	case v != nil && v.Pkg() != nil && v.Parent() == v.Pkg().Scope():
		c.add("NP15", to.Pos(), "stores %s in package variable %s", found, id.Name)
	case !direct && isAny(c.pkg.TypesInfo.TypeOf(to)) && !c.within(engine):
		c.add("NP15", to.Pos(), "stores %s where its type is not seen", found)
	}
}

func (c *checker) isPackage(id *ast.Ident) bool {
	_, ok := c.pkg.TypesInfo.Uses[id].(*types.PkgName)
	return ok
}

func isAny(t types.Type) bool {
	i, ok := t.Underlying().(*types.Interface)
	return ok && i.NumMethods() == 0
}
