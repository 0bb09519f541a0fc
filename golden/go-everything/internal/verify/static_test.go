package verify

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/tools/go/packages"
)

// staticParts read the source. They see types, so neither an import under another name nor an alias hides anything.
var staticParts = []part{
	{"NP14", "source", wantNoFinding}, {"NP15", "source", wantNoFinding}, {"NP03", "source", wantNoFinding}, {"NP24", "source", wantNoFinding},
	{"NP13", "source", wantNoFinding},
}

// owned is the module's source with what is wrong with it, looked at once for all rules.
var owned = sync.OnceValues(func() (*source, error) { return loadSource(nil, "./...") })

// wantNoFinding is the check of every rule that the source can break.
func wantNoFinding(t *T) {
	s, err := owned()
	t.need(err)
	for _, f := range s.findings {
		t.failIf(f.rule == t.rule, "%v", f)
	}
	outcome.Lock()
	defer outcome.Unlock()
	for _, e := range s.allowed {
		if e.Rule == t.rule && !slices.Contains(outcome.Exceptions, e) {
			outcome.Exceptions = append(outcome.Exceptions, e)
		}
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
	overlay  map[string][]byte // files that are not on disk, for tests of these checks
	packages []*packages.Package
	readers  map[string]bool // functions that read a request's body
	findings []finding
	allowed  []Exception
}

// moduleDir is the folder of go.mod.
func moduleDir() string {
	dir, _ := filepath.Abs("../..") // go test runs where the package is
	return dir
}

// walkSource opens every folder and every Go file of the module in this very process. Go caches a test's result and
// re-uses it while all that the test process opened is unchanged; what `go list` reads in a process of its own does not
// count. Without this, a package added after a green run would be seen only by the next `-count=1`.
func walkSource(t testing.TB) {
	t.Helper()
	err := filepath.WalkDir(moduleDir(), func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != moduleDir():
			return filepath.SkipDir // .git, .dev: not source, and always changing
		case filepath.Ext(path) == ".go" || strings.HasPrefix(d.Name(), "go."):
			_, err = os.ReadFile(path)
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
	s, own := &source{overlay: overlay}, []string{}
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
	if s.packages, err = packages.Load(&cfg, own...); err == nil {
		s.check()
	}
	return s, err
}

// checker looks through one package.
type checker struct {
	*source
	pkg *packages.Package
	rel string // the package's path within the module
}

// check collects all findings of the static rules, and apart from them those that a comment allows. A package that does
// not compile is reported under every static rule: its types are not known.
func (s *source) check() {
	s.findReaders()
	for _, p := range s.packages {
		c := &checker{source: s, pkg: p, rel: strings.TrimPrefix(p.PkgPath, s.module+"/")}
		for _, e := range p.Errors {
			for _, rule := range []string{"NP03", "NP14", "NP15"} {
				s.findings = append(s.findings, finding{rule, p.PkgPath, 0, "does not compile: " + e.Error()})
			}
		}
		for _, file := range p.Syntax {
			c.checkImports(file, p.Fset, true)
			ast.PreorderStack(file, nil, func(n ast.Node, outer []ast.Node) bool { c.checkNode(n, outer); return true })
			c.checkBodies(file)
		}
		c.checkIgnoredFiles()
		for _, file := range p.Syntax {
			c.except(file)
		}
	}
}

// add keeps one finding for each rule and line: the first one.
func (c *checker) add(rule string, pos token.Pos, format string, args ...any) {
	c.addAt(rule, c.pkg.Fset.Position(pos), format, args...)
}

func (c *checker) addAt(rule string, p token.Position, format string, args ...any) {
	file := p.Filename
	if rel, err := filepath.Rel(moduleDir(), file); err == nil {
		file = filepath.ToSlash(rel)
	}
	if !slices.ContainsFunc(c.findings, func(f finding) bool { return f.rule == rule && f.file == file && f.line == p.Line }) {
		c.findings = append(c.findings, finding{rule, file, p.Line, fmt.Sprintf(format, args...)})
	}
}

// checkIgnoredFiles looks at the imports of files that the build tags of this run leave out. Their types are not known.
func (c *checker) checkIgnoredFiles() {
	for _, name := range c.pkg.IgnoredFiles {
		var text any // nil: from disk
		if overlaid, ok := c.overlay[name]; ok {
			text = overlaid
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, text, parser.ImportsOnly)
		if err != nil || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		c.checkImports(file, fset, false)
	}
}

// except makes exceptions of findings that a `//verify:allow RULE reason` allows, on their own line or on the line below
// their comment. One without a reason is itself a finding.
func (c *checker) except(file *ast.File) {
	for _, group := range file.Comments {
		for _, comment := range group.List {
			rest, ok := strings.CutPrefix(comment.Text, "//verify:allow ")
			if !ok {
				continue
			}
			rule, reason, _ := strings.Cut(strings.TrimSpace(rest), " ")
			if reason = strings.TrimSpace(reason); reason == "" {
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
