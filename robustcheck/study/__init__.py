"""Studies: frozen plans, cells with content hashes, a runner and a store that survives interruption."""
