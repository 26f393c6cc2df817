"""PCI functions for QEMU and other vfio-user clients.

``protocol`` has the messages, ``device`` says what a function offers, ``server`` answers a client.
Nothing here knows what is behind a function, or any simulator: a function is asynchronous Python.
The protocol is that of QEMU's ``docs/interop/vfio-user.rst``, without migration and dirty pages.
"""
