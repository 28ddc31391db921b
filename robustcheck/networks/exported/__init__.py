"""Exported programs (`.pt2`): reading them without running anything they hold, and the network made from one."""
