require golang.org/x/tools v0.52.0
