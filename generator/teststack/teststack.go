// Package teststack holds stacks that are made up, for tests of what works on any
// stack. They share no word with the real ones: whatever works on them comes from
// their files alone, and a new choice of a real stack changes none of these tests.
//
// They have a text with a default and one with a format, an option of one choice
// (which is no question), one of several, one of many with a flag that takes
// choices away, choices that need or exclude others, and a second stack, of another
// language, which shares a folder with the first.
package teststack

import "embed"

// Files has one folder for each stack, and what they share, as package templates has.
//
//go:embed all:menu all:snack all:shared
var Files embed.FS
