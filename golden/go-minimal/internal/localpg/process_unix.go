//go:build unix

package localpg

import (
	"reflect"
	"syscall"
)

func childAttributes(uid, gid int) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if uid >= 0 {
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	// Linux alone has it: its kernel interrupts the child when we die without a chance to.
	if orphaned := reflect.ValueOf(attr).Elem().FieldByName("Pdeathsig"); orphaned.IsValid() {
		orphaned.SetInt(int64(syscall.SIGINT))
	}
	return attr
}
