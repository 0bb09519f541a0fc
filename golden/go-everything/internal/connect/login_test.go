package connect

// speaksOnlySCRAM is how this login knows.
func speaksOnlySCRAM(c *Connector) bool { return c.config.RequireAuth == onlySCRAM }
