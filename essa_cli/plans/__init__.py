"""Fault plans that ship; `essa ctl plan NAME` runs one."""
