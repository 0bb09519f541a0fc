// The alternatives are parts of rendered projects: this keeps them out of ./...
module github.com/nullpool/nullpool/alternatives

go 1.26.0
