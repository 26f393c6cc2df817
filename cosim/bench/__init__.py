"""Builds simulations of any component and connects them to memory, mailboxes and Python."""
