package generator_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSnippets compiles all Go code of the rendered project's documents: in the package that a document is about, and with
// what the text around it has by these names.
func TestSnippets(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it runs the go command")
	}
	dir := copyOfGolden(t)
	documents, err := filepath.Glob(filepath.Join(dir, "docs/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	fenced := regexp.MustCompile("(?s)\n```go\n(.*?)```")
	for _, document := range append(documents, filepath.Join(dir, "README.md")) {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(document), ".md")
		home, all := aboutHandlers, []string{}
		if name == "jobs" {
			home = aboutProcess
		}
		found := fenced.FindAllStringSubmatch(string(text), -1)
		for _, snippet := range found {
			all = append(all, home.declare(snippet[1]))
		}
		if len(found) == 0 {
			continue
		}
		source := strings.Join(all, "")
		if strings.Contains(source, "claimsKey") {
			source += "type claimsKey struct{}\n"
		}
		if _, err := code(home.folder+"/snippets_"+strings.ToLower(name)+".go", source).apply(dir); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := goIn(t, dir, "vet", "./internal/httpapi", "./cmd/demo"); err != nil {
		t.Errorf("a document's code: %s", out)
	}
}

// home is where a document's code belongs: a package, and what holds statements, and the elements of a list.
type home struct{ folder, statements, elements string }

var (
	aboutHandlers = home{
		"internal/httpapi",
		`func _(ctx context.Context, db *nopool.DB, session *nopool.Session, s *Server, r *http.Request, mux *http.ServeMux, url string, remember func(context.Context, *nopool.Session) error) error {
%s
}
`, "var _ = Server{\n%s}\n",
	}
	aboutProcess = home{"cmd/demo", "func _(s *service) error {\n%s\n}\n", "func _(s *service) []hook { return []hook{\n%s} }\n"}
)

// declare makes declarations of a snippet: of its parts, where these differ in kind.
func (h home) declare(snippet string) string {
	parses := func(text string) (*ast.File, bool) {
		file, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+text, 0)
		return file, err == nil
	}
	if _, ok := parses(snippet); ok {
		return snippet
	}
	if file, ok := parses("func _() {\n" + snippet + "}"); ok {
		var last ast.Stmt
		lines := []string{snippet}
		if function, ok := file.Decls[0].(*ast.FuncDecl); ok {
			for _, last = range function.Body.List {
				if assign, ok := last.(*ast.AssignStmt); ok && assign.Tok == token.DEFINE {
					for _, name := range assign.Lhs {
						lines = append(lines, fmt.Sprintf("_ = %s\n", name))
					}
				}
			}
		}
		if _, ends := last.(*ast.ReturnStmt); !ends {
			lines = append(lines, "return nil")
		}
		return fmt.Sprintf(h.statements, strings.Join(lines, ""))
	}
	if before, after, found := strings.Cut(snippet, "\n\n"); found {
		return h.declare(before+"\n") + h.declare(after)
	}
	return fmt.Sprintf(h.elements, snippet)
}
