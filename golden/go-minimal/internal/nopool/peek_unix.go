//go:build unix

package nopool

import (
	"net"
	"syscall"
	"time"
)

// pending returns how long to wait for what conn has to be read: no time when it has nothing.
func pending(conn net.Conn) time.Duration {
	if socket, ok := conn.(syscall.Conn); ok {
		if raw, err := socket.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { _, _, err = syscall.Recvfrom(int(fd), []byte{0}, syscall.MSG_PEEK) })
			if err == syscall.EAGAIN {
				return 0
			}
			return 50 * time.Millisecond // for all of it to be there
		}
	}
	return time.Millisecond
}
