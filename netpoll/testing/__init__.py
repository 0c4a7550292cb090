"""What the conformance suite is made of, usable on other people's backends too.

`netpoll.testing.statements` holds the numbered statements that tests decide.
"""
