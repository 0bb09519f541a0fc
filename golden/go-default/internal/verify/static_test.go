package verify

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/tools/go/packages"
	"golang.org/x/tools/txtar"
)

// staticParts read the source. They see types, so neither an import under
// another name nor an alias hides anything from them.
var staticParts = []part{
	{"NP14", "source", func(t *T) { wantNoFinding(t, "NP14") }},
	{"NP15", "source", func(t *T) { wantNoFinding(t, "NP15") }},
	{"NP03", "source", func(t *T) { wantNoFinding(t, "NP03") }},
	{"NP24", "source", func(t *T) { wantNoFinding(t, "NP24") }},
}

// static is the module's source and what is wrong with it, looked at once for
// all rules.
var static struct {
	sync.Once
	source   *source // nil when the one who loaded it failed
	findings []finding
	allowed  []Exception
}

func owned(t *T) *source {
	t.Helper()
	static.Do(func() {
		s := loadSource(t, nil, "./...")
		static.findings, static.allowed = s.check()
		static.source = s
	})
	if static.source == nil {
		t.Fatal("the source could not be loaded")
	}
	return static.source
}

func wantNoFinding(t *T, rule string) {
	owned(t)
	for _, f := range static.findings {
		if f.rule == rule {
			t.Errorf("%v", f)
		}
	}
	outcomes.Lock()
	defer outcomes.Unlock()
	for _, e := range static.allowed {
		if e.Rule == rule && !slices.Contains(outcomes.exceptions, e) {
			outcomes.exceptions = append(outcomes.exceptions, e)
		}
	}
}

// finding is one place where the source breaks a rule.
type finding struct {
	rule string
	file string // relative to the module, with slashes
	line int
	text string
}

func (f finding) String() string { return fmt.Sprintf("%s:%d: %s", f.file, f.line, f.text) }

// source is the module's own code with its types. Dependencies are known by
// their exported data alone: what they do inside is theirs.
type source struct {
	dir      string // where go.mod lies
	module   string
	overlay  map[string][]byte // files that are not on disk, for tests of these checks
	packages []*packages.Package
}

// moduleDir is the folder of go.mod, found upwards from the package's own.
func moduleDir(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			break
		}
		dir = filepath.Dir(dir)
	}
	t.Fatal("no go.mod above the test")
	return ""
}

// walkSource opens every folder and every Go file of the module in this very
// process. Go caches a test's result and re-uses it while all that the test
// process opened is unchanged; what `go list` reads in a process of its own
// does not count. Without this, a package added after a green run would be
// seen only by the next `-count=1`.
func walkSource(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != dir && strings.HasPrefix(d.Name(), "."):
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

// loadSource loads the packages that the patterns name, and every package of
// the owner's that those import: also one in a folder that "./..." skips, and
// one in another module that a replace directive or go.work takes from disk.
// Build tags come from GOFLAGS, as for the owner's own builds.
func loadSource(t testing.TB, overlay map[string][]byte, patterns ...string) *source {
	t.Helper()
	s := &source{dir: moduleDir(t), overlay: overlay}
	cfg := packages.Config{
		Dir: s.dir, Overlay: overlay,
		Mode: packages.NeedName | packages.NeedImports | packages.NeedDeps | packages.NeedModule,
	}
	roots, err := packages.Load(&cfg, patterns...)
	if err != nil {
		t.Fatalf("list the module's packages: %v", err)
	}
	var owned []string
	packages.Visit(roots, nil, func(p *packages.Package) {
		if m := p.Module; m != nil && (m.Main || m.Replace != nil && m.Replace.Version == "") {
			owned = append(owned, p.PkgPath)
		}
		if m := p.Module; m != nil && m.Main && m.Dir == s.dir {
			s.module = m.Path
		}
	})
	cfg.Mode = packages.LoadSyntax | packages.NeedModule
	s.packages, err = packages.Load(&cfg, owned...)
	if err != nil {
		t.Fatalf("load the module's packages: %v", err)
	}
	if len(s.packages) == 0 || s.module == "" {
		t.Fatalf("no packages in %s", s.dir)
	}
	return s
}

// checker looks through one package and collects findings.
type checker struct {
	*source
	pkg      *packages.Package
	rel      string // the package's path within the module
	findings []finding
}

// check returns all findings of the static rules, without those that a
// comment allows; these are returned as exceptions. A package that does not
// compile is reported under every static rule: its types are not known.
func (s *source) check() (findings []finding, allowed []Exception) {
	for _, p := range s.packages {
		c := &checker{source: s, pkg: p, rel: strings.TrimPrefix(p.PkgPath, s.module+"/")}
		for _, e := range p.Errors {
			for _, rule := range []string{"NP03", "NP14", "NP15"} {
				c.findings = append(c.findings, finding{rule, p.PkgPath, 0, "does not compile: " + e.Error()})
			}
		}
		for _, file := range p.Syntax {
			c.checkImports(file.Imports, p.Fset)
			c.checkUses(file)
			c.checkDeclarations(file)
			c.checkEscapes(file)
			c.checkLeaks(file)
		}
		c.checkIgnoredFiles()
		comments := c.exceptions()
		for _, f := range unique(c.findings) {
			if e := comments.match(f); e != nil {
				allowed = append(allowed, Exception{f.rule, fmt.Sprintf("%s:%d", f.file, f.line), e.reason})
				continue
			}
			findings = append(findings, f)
		}
	}
	return findings, allowed
}

// unique keeps one finding for each rule and line: the first one.
func unique(all []finding) []finding {
	var out []finding
	for _, f := range all {
		same := func(x finding) bool { return x.rule == f.rule && x.file == f.file && x.line == f.line }
		if !slices.ContainsFunc(out, same) {
			out = append(out, f)
		}
	}
	return out
}

func (c *checker) add(rule string, pos token.Pos, format string, args ...any) {
	c.addAt(rule, c.pkg.Fset.Position(pos), format, args...)
}

func (c *checker) addAt(rule string, p token.Position, format string, args ...any) {
	c.findings = append(c.findings, finding{rule, c.relative(p.Filename), p.Line, fmt.Sprintf(format, args...)})
}

func (c *checker) relative(file string) string {
	if rel, err := filepath.Rel(c.dir, file); err == nil {
		return filepath.ToSlash(rel)
	}
	return file
}

// checkIgnoredFiles looks at the imports of files that the build tags of this
// run leave out. Their types are not known, so what could be a pool counts.
func (c *checker) checkIgnoredFiles() {
	for _, name := range c.pkg.IgnoredFiles {
		fset := token.NewFileSet()
		var text any // nil: from disk
		if overlaid, ok := c.overlay[name]; ok {
			text = overlaid
		}
		file, err := parser.ParseFile(fset, name, text, parser.ImportsOnly)
		if err == nil && filepath.Ext(name) == ".go" && !strings.HasSuffix(name, "_test.go") {
			c.checkImports(file.Imports, fset)
			for _, spec := range file.Imports {
				if path, _ := strconv.Unquote(spec.Path.Value); path == "database/sql" && !c.within(mayUseSQL) {
					c.addAt("NP14", fset.Position(spec.Pos()), "imports database/sql under another build tag")
				}
			}
		}
	}
}

// allowComment is one `//verify:allow RULE reason`.
type allowComment struct {
	rule, file, reason string
	from, to           int // the lines it covers
}

type allowComments []allowComment

func (a allowComments) match(f finding) *allowComment {
	i := slices.IndexFunc(a, func(e allowComment) bool {
		return e.rule == f.rule && e.file == f.file && e.from <= f.line && f.line <= e.to
	})
	if i < 0 {
		return nil
	}
	return &a[i]
}

// exceptions collects the comments that allow a finding on their own line or
// on the line below their comment. One without a reason is itself a finding.
func (c *checker) exceptions() (all allowComments) {
	for _, file := range c.pkg.Syntax {
		for _, group := range file.Comments {
			for _, comment := range group.List {
				rest, ok := strings.CutPrefix(comment.Text, "//verify:allow ")
				if !ok {
					continue
				}
				rule, reason, _ := strings.Cut(strings.TrimSpace(rest), " ")
				if strings.TrimSpace(reason) == "" {
					c.add(rule, comment.Pos(), "verify:allow needs a reason after the rule")
					continue
				}
				p := c.pkg.Fset.Position(comment.Pos())
				all = append(all, allowComment{
					rule, c.relative(p.Filename), strings.TrimSpace(reason),
					p.Line, c.pkg.Fset.Position(group.End()).Line + 1,
				})
			}
		}
	}
	return all
}

// inspect walks a file with the path of enclosing nodes, outermost first.
func inspect(file *ast.File, visit func(n ast.Node, outer []ast.Node)) {
	var stack []ast.Node
	ast.Inspect(file, func(n ast.Node) bool {
		if n == nil {
			stack = stack[:len(stack)-1]
			return true
		}
		visit(n, stack)
		stack = append(stack, n)
		return true
	})
}

// TestStaticRules runs the static checks over code that breaks them, and
// wants each finding on its line and no other.
func TestStaticRules(t *testing.T) {
	t.Parallel()
	archive, err := txtar.ParseFile(filepath.Join("testdata", "static.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	overlay, want := map[string][]byte{}, map[string]bool{}
	wanted := regexp.MustCompile(`// want ((NP\d\d ?)+)$`)
	for _, f := range archive.Files {
		overlay[filepath.Join(moduleDir(t), filepath.FromSlash(f.Name))] = f.Data
		for i, line := range strings.Split(string(f.Data), "\n") {
			m := wanted.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			for rule := range strings.FieldsSeq(m[1]) {
				want[fmt.Sprintf("%s:%d %s", f.Name, i+1, rule)] = true
			}
		}
	}
	findings, allowed := loadSource(t, overlay, "./internal/fixture/...").check()
	for _, f := range findings {
		if !strings.HasPrefix(f.file, "internal/fixture/") {
			continue // the module's own code, which TestVerify looks at
		}
		key := fmt.Sprintf("%s:%d %s", f.file, f.line, f.rule)
		if strings.Contains(f.text, "needs a reason") {
			continue
		}
		if !want[key] {
			t.Errorf("unexpected: %s %s", f.rule, f)
		}
		delete(want, key)
	}
	for key := range want {
		t.Errorf("not found: %s", key)
	}
	reason := func(e Exception) bool {
		return e.Rule == "NP03" && e.Reason == "listens for notifications on a connection of its own"
	}
	if !slices.ContainsFunc(allowed, reason) {
		t.Errorf("the allowed finding is not among the exceptions: %v", allowed)
	}
	unreasoned := func(f finding) bool { return strings.Contains(f.text, "needs a reason") }
	if !slices.ContainsFunc(findings, unreasoned) {
		t.Error("an exception without a reason was taken")
	}
}
