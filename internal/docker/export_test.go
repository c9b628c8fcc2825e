package docker

// Abandon closes the client's end of the cage, as the death of the client does.
func (c *Cage) Abandon() { c.attach.close() }
