package verify

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/tools/go/packages"
)

// staticParts read the source. They see types, so neither an import under another name nor an alias hides anything.
var staticParts = []part{{"NP02 NP03 NP04 NP05 NP13 NP14 NP15 NP16 NP24 NP26 NP29", "source", wantNoFinding}}

// owned is the module's source with what is wrong with it, looked at once for all rules.
var owned = sync.OnceValues(func() (*source, error) {
	s, err := loadSource(nil, "./...")
	if err == nil {
		outcome.Lock()
		defer outcome.Unlock()
		outcome.Exceptions = s.allowed
	}
	return s, err
})

// wantNoFinding is the check of every rule that the source can break.
func wantNoFinding(t *T) {
	s, err := owned()
	t.need(err)
	for _, f := range s.findings {
		t.failIf(f.rule == t.rule, "%v", f)
	}
}

// finding is one place where the source breaks a rule; the file is relative to the module, with slashes.
type finding struct {
	rule, file string
	line       int
	text       string
}

func (f finding) String() string { return fmt.Sprintf("%s:%d: %s", f.file, f.line, f.text) }

// source is the module's own code with its types. Dependencies are known by their exported data alone: what they do inside
// is theirs.
type source struct {
	module   string
	packages []*packages.Package
	does     map[string]bool             // what functions do, by their full names
	values   map[types.Object][]ast.Expr // what variables are given, and functions return
	carried  map[*types.Var]bool         // variables that carry a session, though their types do not say so
	bodies   map[*types.Var]bool         // those that read what a client sends
	findings []finding
	allowed  []Exception
}

// moduleDir is the folder of go.mod.
func moduleDir() string {
	dir, _ := filepath.Abs("../..") // go test runs where the package is
	return dir
}

// walkSource opens every folder of the module in this very process. Go caches a test's result and re-uses it while all
// that the test process opened is unchanged, of a folder what is in it and when that was written; what `go list` reads in
// a process of its own does not count. Without this, a package added after a green run would be seen only by the next
// `-count=1`.
func walkSource(t testing.TB) {
	t.Helper()
	err := filepath.WalkDir(moduleDir(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != moduleDir() {
			return filepath.SkipDir // .git, .dev: not source, and always changing
		}
		return err
	})
	if err != nil {
		t.Fatalf("walk the module: %v", err)
	}
}

// loadSource loads and checks the packages that the patterns name, and every package of the owner's that those import: also one in a
// folder that "./..." skips, and one in another module that a replace directive or go.work takes from disk. Build tags
// come from GOFLAGS, as for the owner's own builds.
func loadSource(overlay map[string][]byte, patterns ...string) (*source, error) {
	s, own := &source{}, []string{}
	cfg := packages.Config{
		Dir: moduleDir(), Overlay: overlay,
		Mode: packages.NeedName | packages.NeedImports | packages.NeedDeps | packages.NeedModule,
	}
	roots, err := packages.Load(&cfg, patterns...)
	packages.Visit(roots, nil, func(p *packages.Package) {
		if m := p.Module; m != nil && (m.Main || m.Replace != nil && m.Replace.Version == "") {
			own = append(own, p.PkgPath)
			if m.Main && m.Dir == cfg.Dir {
				s.module = m.Path
			}
		}
	})
	if err != nil || s.module == "" {
		return nil, fmt.Errorf("no packages of a module in %s: %w", cfg.Dir, err)
	}
	cfg.Mode = packages.LoadSyntax | packages.NeedModule
	s.packages, err = packages.Load(&cfg, own...)
	for _, p := range s.packages {
		for _, e := range p.Errors { // its types are not known
			err = errors.Join(err, fmt.Errorf("%s does not compile: %w", p.PkgPath, e))
		}
	}
	if err == nil {
		s.check()
	}
	return s, err
}

var allows = re(`^//verify:allow +(\S+)(.*)`)

// checker looks through one package.
type checker struct {
	*source
	*types.Info
	pkg *packages.Package
	rel string // the package's path within the module
}

// check collects all findings of the static rules, and apart from them those that a comment allows.
func (s *source) check() {
	s.does, s.values, s.carried, s.bodies = map[string]bool{}, map[types.Object][]ast.Expr{}, map[*types.Var]bool{}, map[*types.Var]bool{}
	s.each((*checker).collect)
	for before := -1; before < len(s.does)+len(s.carried)+len(s.bodies); { // what one function does depends on others
		before = len(s.does) + len(s.carried) + len(s.bodies)
		s.each((*checker).learn)
	}
	s.each((*checker).checkNode)
	s.each((*checker).except)
}

// each calls do for each node of the source, with those around it, outermost first.
func (s *source) each(do func(c *checker, n ast.Node, outer []ast.Node)) {
	for _, p := range s.packages {
		c := &checker{s, p.TypesInfo, p, strings.TrimPrefix(p.PkgPath, s.module+"/")}
		for _, file := range p.Syntax {
			ast.PreorderStack(file, nil, func(n ast.Node, outer []ast.Node) bool { do(c, n, outer); return true })
		}
	}
}

// add keeps one finding for each rule and line: the first one.
func (c *checker) add(rule string, pos token.Pos, format string, args ...any) {
	p := c.pkg.Fset.Position(pos)
	file := p.Filename
	if rel, err := filepath.Rel(moduleDir(), file); err == nil {
		file = filepath.ToSlash(rel)
	}
	if !slices.ContainsFunc(c.findings, func(f finding) bool { return f.rule == rule && f.file == file && f.line == p.Line }) {
		c.findings = append(c.findings, finding{rule, file, p.Line, fmt.Sprintf(format, args...)})
	}
}

// checkIgnored looks at the imports of files that the build tags of this run leave out. What they use of a package is not
// known, so it is taken for the worst.
func (c *checker) checkIgnored() {
	for _, name := range c.pkg.IgnoredFiles {
		file, err := parser.ParseFile(c.pkg.Fset, name, nil, parser.ImportsOnly)
		if err != nil || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, spec := range file.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			c.forbid(spec.Pos(), path+".Open")
		}
	}
}

// except makes exceptions of findings that a `//verify:allow RULE reason` allows, on their own line or on the line below
// their comment. One without a reason is itself a finding.
func (c *checker) except(n ast.Node, _ []ast.Node) {
	file, ok := n.(*ast.File)
	if !ok {
		return
	}
	c.checkIgnored()
	for _, group := range file.Comments {
		for _, comment := range group.List {
			said := allows.FindStringSubmatch(comment.Text)
			if said == nil {
				continue
			}
			rule, reason := said[1], strings.TrimSpace(said[2])
			if reason == "" {
				c.add(rule, comment.Pos(), "verify:allow needs a reason after the rule")
				continue
			}
			from, to := c.pkg.Fset.Position(comment.Pos()), c.pkg.Fset.Position(group.End()).Line+1
			c.findings = slices.DeleteFunc(c.findings, func(f finding) bool {
				covered := f.rule == rule && strings.HasSuffix(filepath.ToSlash(from.Filename), "/"+f.file) && from.Line <= f.line && f.line <= to
				if covered {
					c.allowed = append(c.allowed, Exception{rule, fmt.Sprintf("%s:%d", f.file, f.line), reason})
				}
				return covered
			})
		}
	}
}
