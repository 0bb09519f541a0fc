package standin

import "crypto/tls"

// OnTLS changes what TLS makes of itself with clients that are yet to come.
func (s *Server) OnTLS(change func(*tls.Config)) { s.locked(func() { change(s.tls) }) }
