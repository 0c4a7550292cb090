"""Everything that tests share comes from netpoll's own plugin, which other people's backends use as well."""

pytest_plugins = ["netpoll.testing.plugin"]
