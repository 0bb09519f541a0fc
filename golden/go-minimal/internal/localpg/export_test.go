package localpg

// Folders are for tests to change.
var Folders = &folders
