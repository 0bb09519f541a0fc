package generator

import (
	"io/fs"
	"path"
	"strings"
	"testing"
	"text/template"
	"text/template/parse"

	"github.com/nullpool/nullpool/templates"
)

// The most {{if}}s that a template may have before a file or a slot of its own
// is the better way to vary.
const mostIfs = 4

// templateTrees returns the parse trees of all that is rendered, by file and
// block.
func templateTrees(t *testing.T) map[string]*parse.Tree {
	t.Helper()
	trees := map[string]*parse.Tree{}
	err := fs.WalkDir(templates.Files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) != templateSuffix {
			return err
		}
		text, err := fs.ReadFile(templates.Files, name)
		if err != nil {
			return err
		}
		functions := template.FuncMap{"slot": func(string, any) string { return "" }}
		parsed, err := template.New(name).Funcs(functions).Parse(string(text))
		if err != nil {
			return err
		}
		for _, block := range parsed.Templates() {
			key := name
			if block.Name() != name {
				key += "#" + block.Name()
			}
			trees[key] = block.Tree
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return trees
}

// walk calls visit for every node and the number of ifs around it.
func walk(node parse.Node, depth int, visit func(parse.Node, int)) {
	visit(node, depth)
	switch n := node.(type) {
	case *parse.ListNode:
		if n == nil {
			return
		}
		for _, child := range n.Nodes {
			walk(child, depth, visit)
		}
	case *parse.IfNode:
		walk(n.Pipe, depth, visit)
		walk(n.List, depth+1, visit)
		walk(n.ElseList, depth+1, visit)
	case *parse.RangeNode:
		walk(n.Pipe, depth, visit)
		walk(n.List, depth, visit)
		walk(n.ElseList, depth, visit)
	case *parse.ActionNode:
		walk(n.Pipe, depth, visit)
	case *parse.PipeNode:
		if n == nil {
			return
		}
		for _, command := range n.Cmds {
			for _, argument := range command.Args {
				walk(argument, depth, visit)
			}
		}
	}
}

// TestTemplatesStayPlain keeps programs out of templates: what varies is a file
// or a slot, and rarely an {{if}}, which holds no other. In code there is none about a
// choice: each would double the programs that have to be proven.
func TestTemplatesStayPlain(t *testing.T) {
	t.Parallel()
	for name, tree := range templateTrees(t) {
		ifs := 0
		isCode := strings.Contains(name, ".go.tmpl") || strings.Contains(name, ".py.tmpl")
		walk(tree.Root, 0, func(node parse.Node, depth int) {
			switch node := node.(type) {
			case *parse.IfNode:
				if ifs++; depth > 0 {
					t.Errorf("%s:%d: an if within an if", name, node.Position())
				}
				if isCode && !strings.HasPrefix(node.Pipe.String(), ".Type") {
					t.Errorf("%s: {{if %s}}: want a slot, or a setting", name, node.Pipe)
				}
			case *parse.RangeNode:
				if !strings.HasPrefix(node.Pipe.String(), "."+settingsField+".") {
					t.Errorf("%s: {{range %s}}: want only settings", name, node.Pipe)
				}
			case *parse.WithNode, *parse.TemplateNode, *parse.BreakNode, *parse.ContinueNode:
				t.Errorf("%s: %s: want only fields, slots, settings and if", name, node)
			}
		})
		if ifs > mostIfs {
			t.Errorf("%s: %d ifs, want at most %d", name, ifs, mostIfs)
		}
	}
}

// slotName returns the name in {{slot "name" .}}.
func slotName(node parse.Node) (string, bool) {
	action, ok := node.(*parse.ActionNode)
	if !ok {
		return "", false
	}
	call := action.Pipe.Cmds[0].Args
	if len(call) != 3 || call[0].String() != "slot" {
		return "", false
	}
	name, ok := call[1].(*parse.StringNode)
	if !ok {
		return "", false
	}
	return name.Text, true
}

// TestSlotsMeet finds a part for a slot that no file opens: a misspelling. A slot
// that no layer fills yet is filled by testdata/extra.
func TestSlotsMeet(t *testing.T) {
	t.Parallel()
	opened := map[string]bool{}
	for name, tree := range templateTrees(t) {
		stack, _, _ := strings.Cut(name, "/")
		walk(tree.Root, 0, func(node parse.Node, _ int) {
			if slot, ok := slotName(node); ok {
				opened[stack+" "+slot], opened["shared "+slot] = true, true
			}
		})
	}
	for name := range templateTrees(t) {
		stack, _, _ := strings.Cut(name, "/")
		file, block, ok := strings.Cut(name, "#")
		if ok && path.Base(file) == slotsFile && !opened[stack+" "+block] && !opened["shared "+block] {
			t.Errorf("%s: fills slot %q, which no file opens", name, block)
		}
	}
}
