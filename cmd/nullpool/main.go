// Command nullpool renders services that hold no connection pool.
package main

import "os"

func main() { os.Exit(start(os.Stdin, os.Stdout, os.Stderr).runProcess()) }
