"""What tests share comes from netpoll's plugin, which other people's backends use as well."""

pytest_plugins = ["netpoll.testing.plugin"]
