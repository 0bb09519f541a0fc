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
//	stack.json                         title, versions of modules, and the options in the order they are asked
//	base/…                             files of every project
//	options/OPTION/CHOICE/…            files that a choice owns
//	shared/NAME/…                      files of all choices that say "uses": ["NAME"]
//	pairs/OPTION.CHOICE+OPTION.CHOICE/…  files for choices that come together
//
// Each of these folders is a layer, and mirrors the output. A file that ends in .tmpl
// is rendered and loses the suffix; any other is copied byte for byte. No two layers
// of one project have the same file. Some files of a layer are not the project's:
//
//	slots.tmpl     each {{define "name"}} block in it is the layer's part of the slot
//	               that a file opens with {{slot "name" .}}
//	settings.json  the environment variables that the layer adds: see Setting
//	lock.…         what the layer adds to what pins a project's dependencies, made by go
//	               generate: see lockKinds. It reads lock.in, the names that a layer asks
//	               for, where these cannot be told from imports.
//
// Beside the stacks is what they share: shared/NAME/… are layers, too, for choices of
// any stack, and settings.json has what all stacks say of a setting.
//
// No code knows a stack. What it knows are kinds that stack.json names: of text
// (textFormat) and of locks (lockKind); and syntaxes, by the extensions of files. Rendering
// needs no tool of a stack's language: what these say of every distinct file is for tests.
package generator

//go:generate go run ./internal/lock
