package localpg

// For tests to look at, and to change.
var (
	FindBinaries = findBinaries
	Folders      = &folders
)
