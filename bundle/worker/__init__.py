"""The child process that holds a model: its program, the wire protocol, both clients."""
