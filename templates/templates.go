// Package templates holds every stack's templates. A stack is one folder here;
// package generator says how it is laid out.
package templates

import "embed"

// Files holds one folder per stack. The pattern takes dotfiles and new folders
// without an edit. A rendered module's go.mod and Go files carry the suffix
// .tmpl here: embed refuses a folder that holds a go.mod, and a Go file without
// the suffix would be compiled with this package.
//
//go:embed all:*
var Files embed.FS
