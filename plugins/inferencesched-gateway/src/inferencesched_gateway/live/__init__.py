"""The live demonstration: engines, gateways and a client on one machine, each in a process of its own.

traffic ─▶ client ══HTTP══▶ gateway under a policy ══HTTP══▶ simulated engines
                                     └── receipts, and which engine took what

It knows the gateway as anybody does: by its command, its port and what it prints.
"""
