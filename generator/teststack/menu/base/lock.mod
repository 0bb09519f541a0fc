go 1.26.0

require example.com/cutlery v1.0.0
