// Package generator turns answers into a project.
//
// It is one pipeline in one direction. Load reads a stack: its options
// (stack.json) and its layers of templates. NewPlan holds answers against the
// stack's rules, reports every problem at once, and says which layers the
// project consists of. Generate renders these layers into a Tree, formats it
// and checks it. Write puts a Tree on disk, wholly or not at all. All but Write
// are pure functions of answers, templates and version: the plan that people
// are shown, the goldens and the written project come from the same call.
//
// A stack is a folder:
//
//	stack.json                  title, and the options in the order they are asked
//	base/…                      files of every project
//	options/OPTION/CHOICE/…     files that a choice owns, and its slots.tmpl
//	locks/CHOICE+CHOICE/…       go.mod and go.sum for these choices, made by go generate
//
// The folders of a layer mirror the output. A file that ends in .tmpl is
// rendered and loses the suffix; any other is copied byte for byte. A layer's
// slots.tmpl is not a file of the project: each {{define "name"}} block in it is
// the layer's part of the slot that a file opens with {{slot "name" .}}.
package generator

//go:generate go run ./internal/lock
