require github.com/xdg-go/scram v1.4.0
require github.com/xdg-go/stringprep v1.0.4 // indirect
