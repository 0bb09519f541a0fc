//go:build !unix

package localpg

import "syscall"

func childAttributes(_, _ int) *syscall.SysProcAttr { return nil }
