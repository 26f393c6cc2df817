"""Every bit's one definition: registers, records, messages, encodings and configurations.

Amaranth layouts and enums that plain Python reads as well; no behaviour.  RTL, golden models,
drivers and documents all take their numbers from here, and only from here.  May import
``models.spec`` only.
"""
