module github.com/nullpool/nullpool/golden

go 1.26
