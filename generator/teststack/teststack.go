// Package teststack holds stacks that are made up, for tests of what works on any
// stack. They share no word with the real ones: whatever works on them comes from
// their files alone, and a new choice of a real stack changes none of these tests.
//
// They have a text with a default and one with a format, an option of one choice
// (which is no question), one of several, one of many with a flag that takes
// choices away, choices that need or exclude others, and a second stack.
package teststack

import "embed"

// Files has one folder for each stack, as package templates has.
//
//go:embed all:menu all:snack
var Files embed.FS

// Default is the stack that is meant where none is named.
const Default = "menu"
